// The JSON that measurements are kept in: quench.record/1 (speed of one model), quench.eval/1 (loss
// of one model), quench.shootout/1; and of measure/grid.h quench.bench/1. Unknown is null, never 0;
// units stand at the end of every name. Documented with an example each in docs/measuring.md;
// fields are only ever added.
#pragma once

#include "base/json.h"
#include "measure/shootout.h"

namespace quench {

// Of one row's runs. `id` and `time` come from the caller, so that equal inputs give equal JSON.
Json record_json(const Shootout& shootout, const ShootoutRow& row, const std::string& time);
// Of one row with scores.
Json eval_json(const Shootout& shootout, const ShootoutRow& row);
// report: the report's file name, or empty.
Json shootout_json(const Shootout& shootout, const std::string& time, const std::string& report);

// What is missing or of the wrong type in one of the four, in one sentence. A record of an earlier
// version, without fields that were added since, is good (measure/validate.cc).
Result<void> validate_measurement(const Json& json);

// Now, as 2026-01-31T12:34:56Z.
std::string utc_time();

}  // namespace quench
