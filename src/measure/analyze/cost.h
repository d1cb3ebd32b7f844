// Cost: what a million tokens cost on a machine that is bought, rented or paid by the month, and
// from when on buying pays. All amounts of one calculation are of one currency; converting needs a
// rate that somebody has stated. Pure functions; any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "measure/report/strings.h"

namespace quench {

// A value that is known to lie somewhere between two.
struct Between {
  double low = 0.0;
  double high = 0.0;
  double middle() const;  // geometric; 0 where low is 0
};
Json range_json(const std::optional<Between>& range);  // {"low", "high"}, or null

struct Price {
  std::string id;
  std::string kind;    // "rent", "purchase", "electricity", "plan" (by the month)
  std::string device;  // of hardware/; empty: any
  Between amount;
  std::string currency;  // "USD", "CNY"
  double billing_step_s = 1.0;
  int64_t devices_at_least = 1;
  std::string date;
  std::string source;
};
Result<std::vector<Price>> load_prices();
// The first of the kind for the device with so many devices, in the currency or, by the rates, not.
const Price* find_price(const std::vector<Price>& prices, const std::string& kind,
                        const std::string& device, const std::string& currency,
                        int64_t devices = 1);

// "2500CNY", "1.10-2.50USD": an amount or a range with its currency.
struct Money {
  Between amount;
  std::string currency;
};
Result<Money> parse_money(const std::string& text);

// Stated exchange rates: "USD=7.1CNY" says what one unit is worth.
class Rates {
 public:
  Result<void> add(const std::string& text);
  // kInvalidArgument when no rate between the two was stated.
  Result<Money> convert(const Money& money, const std::string& currency) const;

 private:
  struct Rate {
    std::string from, to;
    double factor;
  };
  std::vector<Rate> rates_;
};

struct Owning {
  Between purchase;
  double resale_share = 0.0;  // of the purchase, at the end of its life
  double life_h = 3.0 * 365.0 * 24.0;
  double busy_w = 0.0;
  double idle_w = 0.0;
  Between electricity_per_kwh;
  double overhead_factor = 1.0;  // power at the wall over power of the device (PUE)
};

struct Renting {
  Between per_hour;
  double billing_step_s = 1.0;
  std::vector<std::pair<double, double>> discounts;  // from so many hours a month: factor
  std::optional<double> per_month;                   // a plan instead: a fixed fee
};

// Energy while generating, per million tokens.
double kwh_per_million(double busy_w, double overhead_factor, double tok_s);

// busy: share of the hours of its life (or of the month) in which it generates.
Between own_cost_per_million(const Owning& own, const Between& tok_s, double busy);
// busy: share of the paid hours in which it generates.
Between rent_cost_per_million(const Renting& rent, const Between& tok_s, double busy,
                              double hours_per_month);
// Of one stretch of `seconds`, rounded up to whole billing steps.
Between rent_cost(const Renting& rent, double seconds, double hours_per_month = 0.0);

struct BreakEven {
  bool exists = false;  // false: every token is cheaper rented, so buying never pays
  Between tokens;       // 90 %
  double tokens_middle = 0.0;
  Between own_hours;  // of generating on the own machine
  double own_hours_middle = 0.0;
  double years_at_most = 0.0;  // the life that was assumed
  bool within_life = false;    // own_hours_middle is less than the life's busy hours
  Sentence dominated_by;       // the input that moves it most
};
// The purchase pays off when what renting the same tokens had cost reaches it. Inputs are drawn
// log-uniformly from their ranges, 2000 times, with a fixed seed.
BreakEven break_even(const Owning& own, const Between& own_tok_s, const Renting& rent,
                     const Between& rent_tok_s, double busy);

// Demand of so many tokens in each of `busy_hours` hours of a day.
struct Hybrid {
  double own_tokens_per_day = 0.0;
  double rented_tokens_per_day = 0.0;
  double rented_hours_per_day = 0.0;
  double own_only_per_day = 0.0;  // machines bought for the peak
  double rent_only_per_day = 0.0;
  double hybrid_per_day = 0.0;
  double machines_for_peak = 0.0;
};
Hybrid hybrid_cost(const Owning& own, double own_tok_s, const Renting& rent, double rent_tok_s,
                   double tokens_per_day, double busy_hours);

}  // namespace quench
