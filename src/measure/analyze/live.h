// Explaining a run here: measures decode and prefill of a model on this machine, says what limits
// each, and tries by experiments to refute it. Drives the device and starts and stops readers of
// memory of its own; what other processes do is only observed. One thread.
#pragma once

#include <atomic>

#include "base/clock.h"
#include "measure/analyze/limiter.h"
#include "measure/analyze/live_model.h"
#include "measure/measured_model.h"

namespace quench {

struct LiveOptions {
  SessionOptions session;
  LiveLimits lengths;      // batch: sequences of the unchanged run
  double budget_s = 45.0;  // after the model is loaded; what is under way is finished
  uint64_t seed = 0;       // of the token ids
  double run_s = 0.15;     // of one decode run: many times a scheduler's slice
  int64_t pairs = 20;      // of each experiment; 6 are the fewest with a 95 % interval
  std::function<double()> clock = now_s;  // of the budget, in seconds
  const std::atomic<bool>* stop = nullptr;
  std::function<void(const std::string& stage, int64_t done, int64_t total)> progress;
  // Called with every prediction before it is measured, and with each experiment after it.
  std::function<void(const std::string& text)> say;
  std::string lang = "en";  // of what is said
};

struct LiveCase {
  MeasuredPass pass;
  std::vector<double> tok_s;
  Limiter limiter;
  Sentence conclusion;  // what the experiments made of it
};

// The format of a report whose model runs as its files are.
constexpr const char* kAsStored = "as stored";

struct LiveReport {
  std::string model, format, device, isa;
  MeasuredModel measured;
  int threads = 0;
  int64_t layers = 0;
  std::vector<std::string> kernels;
  Ceilings ceilings;
  std::vector<LiveCase> cases;  // prefill, decode
  std::vector<Experiment> experiments;
  double measure_s = 0.0;
};

Result<LiveReport> explain_here(LiveOptions options);

// What the experiments of this test say about its limiter. Other people's processes and a machine
// without memory stay as they are, so of those the experiments only tell what remains.
Sentence conclude(const std::string& test, const std::string& limiter,
                  const std::vector<Experiment>& experiments);

// "half_bits, decode: not tried: ...".
std::string not_tried_text(const Experiment& experiment, const Strings& strings);

Json live_json(const LiveReport& report);
std::string live_text(const LiveReport& report, const Strings& strings);

}  // namespace quench
