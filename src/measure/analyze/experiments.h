// Experiments: what a cause predicts when one thing is changed, measured in turns with the
// unchanged run, and whether the prediction held. The arms are functions, so the logic knows no
// model and no clock of its own. Plain values; the arms are called by the caller's thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "measure/analyze/pairs.h"
#include "measure/report/strings.h"
#include "plan/roofline.h"

namespace quench {

// Where the time of one pass goes (a decoded token of every sequence, or a whole prompt).
struct PassTime {
  double weights_s = 0.0;    // matmuls
  double attention_s = 0.0;  // its scores, and reading keys and values
  double layers_s = 0.0;     // other ops
  double waiting_s = 0.0;    // of the team for its slowest member
  double host_s = 0.0;       // between passes
  double sampler_s = 0.0;    // of each sequence's token; not part of total_s()

  double model_s() const { return weights_s + attention_s; }
  double rest_s() const { return layers_s + waiting_s + host_s; }
  double total_s() const { return model_s() + rest_s(); }
};

// Ratios of speed: changed over unchanged.
struct Forecast {
  double low = 1.0;
  double high = 1.0;
  double otherwise = 1.0;  // what would be measured if the cause were another one
  Sentence because;        // no key: it was not predicted

  // Whether a measurement could tell the two apart at all.
  bool can_fail() const { return otherwise < low || otherwise > high; }
};

// What stays the same when one thing is changed is only known so well.
struct Change {
  double model_factor = 1.0;  // of PassTime::model_s(), as the limits of both have it
  double rest_low = 1.0;      // of PassTime::rest_s()
  double rest_high = 1.0;
  double tokens_factor = 1.0;  // tokens per pass
  double none = 1.0;           // the ratio if the change did not matter
  double full = 1.0;           // the ratio if nothing but the changed thing mattered
  double uncertainty = 1.25;   // of model_factor: kernels reach different shares of their limits
};
// Time is the sum of its parts; the limit's change moves the model's, at most as far as all of it.
Forecast forecast_change(const PassTime& time, const Change& change);

// As many readers of memory as the run has threads are started beside it, where others keep
// `others_cpus` of `cpus` busy already. Processors are shared evenly; a team also waits for
// whichever member is off its processor, at worst until all are on theirs by chance.
Forecast forecast_neighbour(int threads, int readers, double others_cpus, int cpus);

// `alone` is what fewer threads would do on a machine of one's own. Where others keep
// `others_cpus` of `cpus` busy, each of fewer threads has more of its processor, and a smaller team
// waits less often for a member that is off its own: as fast as that at least, as if no two were
// ever off together at most. Unchanged where there is room for all.
Forecast forecast_fewer_threads(const Forecast& alone, int threads, int fewer, double others_cpus,
                                int cpus);

enum class Outcome { kHeld, kRefuted, kCannotTell };
const char* outcome_name(Outcome outcome);

struct Experiment {
  std::string
      id;  // "half_bits", "double_batch", "fewer_threads", "neighbour", "together", "isolated"
  std::string test;     // "decode", "prefill"
  std::string subject;  // whose, of two models: "A (demo)"
  Sentence change;      // "int4_g64 instead of int8"; no key: it is not known
  Forecast predicted;
  std::vector<double> unchanged_tok_s, changed_tok_s;  // in pairs
  double ratio = 0.0;                                  // median over pairs; 0: not measured
  double low = 0.0, high = 0.0;                        // of the median
  double coverage = 0.0;                               // that the interval holds it
  Outcome outcome = Outcome::kCannotTell;
  // Of the finding (sign test): that chance alone finds so much; 1: nothing was found.
  double p = 1.0;
  std::optional<double> p_together;            // corrected for all that were tried at once
  std::optional<double> observed_others_cpus;  // busy with other processes during the changed runs
  Sentence note;                               // why it was not measured, or cannot tell
};

// Measures pairs, then judges.
Result<void> measure_in_turns(const Turns& turns, const Arm& unchanged, const Arm& changed,
                              Experiment& experiment);
// Held: the median is as predicted and the interval excludes what would be otherwise. Refuted: the
// interval misses the prediction. Else the spread is larger than the effect.
void judge(Experiment& experiment);
// Several predictions are tried to prove one thing, and one of them errs more easily than each:
// what stays above 5 % by Holm's correction over all that were measured becomes "cannot tell". Each
// experiment can be found wrongly in one way only, so it counts once.
void judge_together(std::vector<Experiment>& experiments);

Json experiment_json(const Experiment& experiment);
// "half the bits (...), decode: predicted ... times as fast".
std::string prediction_text(const Experiment& experiment, const Strings& strings);
std::string outcome_text(const Experiment& experiment, const Strings& strings);
// "decode", "prefill of A (demo)".
std::string test_text(const Experiment& experiment, const Strings& strings);

}  // namespace quench
