// CostPlan: the costs of a deployment, from what the user said, the shipped prices where nothing
// was said, and the predicted speeds. Every input keeps where it is from. Plain values; any thread.
#pragma once

#include "measure/analyze/cost_inputs.h"
#include "measure/analyze/deploy.h"

namespace quench {

// What is asked of the machines, for a hybrid of an own one and rented ones.
struct Demand {
  double tokens_per_day = 0.0;  // 0: no hybrid
  double busy_hours = 8.0;      // of the day that it comes in
};

struct CostConcurrencyRow {
  int64_t batch = 1;
  Between tok_s;
  std::optional<Between> own_per_million;
  std::optional<Between> rent_per_million;
};

struct CostPlan {
  CostInputs prices;
  std::string rent_device;
  Between own_tok_s, rent_tok_s;
  double energy_kwh_per_million = 0.0;
  std::optional<Between> own_per_million;
  std::optional<Between> rent_per_million;
  std::optional<BreakEven> break_even;
  std::optional<Hybrid> hybrid;
  std::vector<CostConcurrencyRow> concurrency;
  std::vector<Sentence> warnings;  // a rented machine that is not a substitute, for example
};

// rented: the same model on the rented device; equal to `owned` when it is the same.
Result<CostPlan> plan_cost(const CostWishes& wishes, const Demand& demand, const Deployment& owned,
                           const Deployment& rented, const std::vector<ConcurrencyRow>& owned_rows,
                           const std::vector<ConcurrencyRow>& rented_rows);

Json cost_json(const CostPlan& cost);

}  // namespace quench
