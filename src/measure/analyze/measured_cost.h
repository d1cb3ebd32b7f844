// What tokens cost at speeds that were measured: of one model as it answers alone and under load,
// of the versions of a shootout. Made from their JSON, so that a kept one is counted again with
// other prices. Pure functions; any thread.
#pragma once

#include "measure/analyze/cost_inputs.h"

namespace quench {

// One version, or one level of load.
struct MeasuredCostRow {
  std::string profile;                // of a shootout; or empty
  std::optional<double> concurrency;  // of a level of load; null: one request at a time
  std::optional<double> rate_s;       // or its arrivals per second
  Between tok_s;                      // generated tokens over the time of whole answers
  std::optional<Between> own, rent;   // per million generated tokens
  std::optional<double> kwh;          // likewise; null where the power is not known

  // Of this machine, for a million tokens: what is known without any price.
  double hours_per_million() const { return 1e6 / (tok_s.middle() * 3600.0); }
};

struct MeasuredCost {
  CostWishes wishes;
  CostInputs prices;  // of this machine
  bool watt_is_measured = false;
  // Of buying this machine instead of renting it, in hours of work: its speed is the same.
  std::optional<BreakEven> break_even;
  std::vector<MeasuredCostRow> rows;  // those without a measured answer are left out
};

// Of a quench.record/1 or a quench.shootout/1, with the prices of its "cost". One answer to every
// task: the sum of the tasks' median tokens over the sum of their median times, with the ends of
// the times' intervals. kInvalidFile, kInvalidArgument: "cost" is malformed.
Result<MeasuredCost> measured_cost(const Json& measurement);

// Sets "cost" (what the user said, and the rows) of a measurement, and of the records in it, and
// its id anew; nothing where no price was named.
Result<void> add_cost(const CostWishes& wishes, Json& measurement);

// Whether prices that the user gave can be counted with, asked before the work and not after it.
Result<void> check_cost_wishes(const CostWishes& wishes);

}  // namespace quench
