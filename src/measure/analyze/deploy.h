// Deployment: a model, a precision and a device put together: does it fit, how far does the memory
// go, how fast will it be, what does it cost. The same questions are asked of a device that
// somebody has written down (Predictor) and of this machine (the loader's own plan and measured
// ceilings): a PredictFn answers for either. One thread.
#pragma once

#include <functional>
#include <memory>

#include "engine/session.h"
#include "measure/analyze/cost.h"
#include "measure/analyze/predict.h"
#include "measure/report/strings.h"

namespace quench {

using PredictFn = std::function<Result<Prediction>(const Placement&)>;

// The predictor's answer; the calibration is made once.
PredictFn predict_elsewhere(const Predictor& predictor, const Placement& setup,
                            const std::string& engine_text);

// This machine: `options` name the model and its format. Memory is the plan's; times are those of a
// slice of the model, run once for lengths and batches up to those of `longest`, or where there is
// no memory for one, the roofline's limit over the share of it that quench reaches.
Result<PredictFn> predict_here(const SessionOptions& options, const Ceilings& ceilings,
                               const Placement& longest);

struct Fit {
  double usable_bytes = 0.0;  // of one device
  double needed_bytes = 0.0;  // on one device
  bool fits = false;
  int64_t max_context_tokens = 0;  // prompt and answer, at this batch; 0: not even one token
  int64_t max_batch = 0;           // at this context
};

struct Deployment {
  Placement setup;
  std::string engine_text;
  Prediction prediction;
  Fit fit;
  // The smallest number of devices that it fits on, when it does not fit on those of the setup.
  std::optional<int64_t> split_devices;
  Sentence split_how;
  std::optional<Prediction> split_prediction;
  // What the numbers do not say.
  std::vector<Sentence> remarks;

  // What the cost is counted with: the split's where there is one.
  const Prediction& used() const { return split_prediction ? *split_prediction : prediction; }
  int64_t devices() const { return split_devices.value_or(setup.devices); }
};

// What the driver and the program leave of a device's memory.
double usable_bytes(const Hardware& device);

Result<Deployment> deploy(const Placement& setup, const std::string& engine_text,
                          const PredictFn& predict);

struct ConcurrencyRow {
  int64_t batch = 1;
  bool fits = false;
  Interval tpot_s;
  Interval tok_s;  // of all sequences
};
// Batches 1, 2, 4, ... up to 64, the first that does not fit included.
Result<std::vector<ConcurrencyRow>> against_concurrency(const Deployment& deployment,
                                                        const PredictFn& predict);

// Why the ceilings of another minute would be others; null: the machine was quiet.
std::optional<Sentence> disturbance_sentence(const Ceilings& ceilings);

// Why: "memory bandwidth: 15.2 GB of weights at 2039 GB/s are 7.5 ms of 11.9 ms".
Sentence bound_sentence(const Placement& setup, const StepTerms& terms);

}  // namespace quench
