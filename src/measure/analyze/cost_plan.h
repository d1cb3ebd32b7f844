// CostPlan: the costs of a deployment, from what the user said, the shipped prices where nothing
// was said, and the predicted speeds. Every input keeps where it is from. Plain values; any thread.
#pragma once

#include "measure/analyze/deploy.h"

namespace quench {

// What the user may say; empty: the shipped prices, or not counted.
struct CostWishes {
  std::string currency;  // empty: that of the first price
  std::string buy, rent, electricity, month;
  std::string rent_device;  // empty: the same device is rented
  std::vector<std::string> rates;
  std::vector<std::string> discounts;  // "200:0.8": from 200 hours a month, times 0.8
  std::optional<double> billing_step_s, busy_w, idle_w;
  double resale_share = 0.0;
  double life_years = 3.0;
  double busy = 0.3;
  double overhead_factor = 1.0;
  double tokens_per_day = 0.0;  // 0: no hybrid
  double busy_hours = 8.0;
};

struct CostConcurrencyRow {
  int64_t batch = 1;
  Between tok_s;
  std::optional<Between> own_per_million;
  std::optional<Between> rent_per_million;
};

struct CostPlan {
  std::string currency;
  std::vector<std::string> inputs;  // one sentence each, with source and date
  std::optional<Owning> own;
  std::optional<Renting> rent;
  std::string rent_device;
  Between own_tok_s, rent_tok_s;
  double busy = 0.0;
  double hours_per_month = 0.0;
  double energy_kwh_per_million = 0.0;
  std::optional<Between> own_per_million;
  std::optional<Between> rent_per_million;
  std::optional<BreakEven> break_even;
  std::optional<Hybrid> hybrid;
  std::vector<CostConcurrencyRow> concurrency;
  std::vector<std::string> warnings;  // a rented machine that is not a substitute, for example
};

// rented: the same model on the rented device; equal to `owned` when it is the same.
Result<CostPlan> plan_cost(const CostWishes& wishes, const Deployment& owned,
                           const Deployment& rented, const std::vector<ConcurrencyRow>& owned_rows,
                           const std::vector<ConcurrencyRow>& rented_rows);

Json cost_json(const CostPlan& cost);

}  // namespace quench
