// What a machine costs, before anybody asks what a token on it costs: what the user said, else the
// shipped prices, in one currency, each with where it is from. Plain values; any thread.
#pragma once

#include "measure/analyze/cost.h"

namespace quench {

// What the user may say; empty: the shipped prices, or not counted.
struct CostWishes {
  std::string currency;  // empty: that of the first price
  std::string buy, rent, electricity, month;
  std::vector<std::string> rates;
  std::vector<std::string> discounts;  // "200:0.8": from 200 hours a month, times 0.8
  std::optional<double> billing_step_s, busy_w, idle_w;
  double resale_share = 0.0;
  double life_years = 3.0;
  double busy = 0.3;
  double overhead_factor = 1.0;

  // Whether anything was said that a machine's price follows from.
  bool names_a_price() const { return !buy.empty() || !rent.empty() || !month.empty(); }
};
// "cost" of a quench.record/1 and of a quench.shootout/1, and back; null where no price was named.
Json cost_wishes_json(const CostWishes& wishes);
Result<CostWishes> cost_wishes_of(const Json& cost, const std::string& where);

struct PricedDevices {
  std::string name;  // of hardware/ and its prices; another name has no shipped price
  int64_t count = 1;
  std::optional<double> busy_w;  // of one, where the user does not say
  Sentence busy_w_origin;        // "rated power, measure it"
};
// What a device is called in a text: this machine has a name in every language.
Sentence device_sentence(const std::string& name);

struct CostInputs {
  std::string currency;
  std::vector<Sentence> lines;  // with source and date
  std::optional<Owning> own;
  std::optional<Renting> rent;
  double busy = 0.0;
  double hours_per_month = 0.0;

  // Per million tokens at this speed; null where its price is not known.
  std::optional<Between> own_per_million(const Between& tok_s) const;
  // A rented machine is given back when nothing is to do: its hours are all busy.
  std::optional<Between> rent_per_million(const Between& tok_s) const;
};

// kInvalidArgument where an amount, a rate or a discount is malformed, or two currencies have no
// stated rate.
Result<CostInputs> read_cost_inputs(const CostWishes& wishes, const PricedDevices& owned,
                                    const PricedDevices& rented);

}  // namespace quench
