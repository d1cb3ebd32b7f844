// The limits of measured runs: what each could have reached at most by the plan of its model and
// the ceilings of this machine, and what had to be read meanwhile. Pure functions.
#pragma once

#include "measure/problem.h"
#include "measure/protocol.h"
#include "measure/telemetry.h"
#include "plan/roofline.h"

namespace quench {

// Sets limit_decode_tok_s and limit_ttft_s of runs that were alone on the engine. The limit of the
// first token is that of its prompt's pieces of plan.limits.max_tokens tokens; that of decoding the
// sum over its steps, each at its own context.
void set_run_limits(const Plan& plan, const Ceilings& ceilings, std::vector<TaskRuns>& tasks);

// A measured speed this far over its limit is still taken for the limit: ceilings are the best of
// short repetitions and miss the true one by some per cent on a machine with neighbours.
constexpr double kCeilingTolerance = 0.05;

// Counted runs that were faster than their limit allows. Such a record is impossible: a clock, a
// count or a ceiling is wrong.
std::vector<Problem> impossible_runs(const std::vector<TaskRuns>& tasks);

// Adds what runs had to read to the samples it was read in: weights and cache of each step, evenly
// over the step. A step of several sequences counts the weights once: tokens that came at the same
// time are one step.
void add_reads(const Plan& plan, const Ceilings& ceilings, const std::vector<const BenchRun*>& runs,
               std::vector<TelemetrySample>& samples);

// What was read between two moments of the steady clock.
struct ReadSpan {
  double begin_s = 0.0;
  double end_s = 0.0;
  double bytes = 0.0;
};
// Sets read_gb_s of the samples: the bytes of each span, evenly over it.
void spread_reads(const std::vector<ReadSpan>& spans, std::vector<TelemetrySample>& samples);

}  // namespace quench
