// Engines: what is known of inference programs and of ways to store weights before anything is
// measured, from hardware/engines.json. Plain values; any thread.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace quench {

// The constants of a step (measure/analyze/step_model.h says what they do).
enum StepConstant : int {
  kHostPerLayer,  // s of the host program, while the device works on what came before
  kGapPerLayer,   // s of the device between kernels
  kStep,          // s: sampling, scheduling, what nothing overlaps
  kEfficiency,    // share of the memory bandwidth that the weights' kernels reach
  kKvFactor,      // how many times keys and values are read and written
  kPrefillShare,  // share of the peak arithmetic in prefill
  kExpert,        // s of the host for every expert of a layer
  kCollective,    // s of one all-reduce
  kNumStepConstants
};
using StepConstants = std::array<double, kNumStepConstants>;

// A constant that is zero is fixed at zero.
struct StepPrior {
  StepConstants value{};
  StepConstants log_sd{};
};

struct Precision {
  std::string name;
  std::vector<std::string> aliases;
  double weight_bits = 16.0;  // scales and zeros included
  double head_bits = 16.0;    // of embedding and head
  std::string peak;           // the device's value that its products count at
  double peak_factor = 1.0;
  bool separate_head = false;  // stored even where the embedding is tied
  std::map<std::string, std::array<double, 2>> efficiency;  // kind -> value, log_sd
};

struct EngineRow {
  std::string name;
  std::vector<std::string> aliases;
  std::string kind;         // "eager", "graph", "native"
  int64_t step_tokens = 0;  // of prompts in one step at most; 0: prompts go through whole
};

struct Engines {
  std::vector<EngineRow> engines;
  std::map<std::string, StepPrior> kinds;  // efficiency is the precision's
  std::vector<Precision> precisions;

  static Result<Engines> load();

  // "vLLM 0.6.3", "transformers+FA2": the row whose name or alias it begins with.
  Result<EngineRow> engine(const std::string& name) const;
  // By name or alias. A format of quench ("int4_g128") is one too.
  Result<Precision> precision(const std::string& name) const;
  StepPrior prior(const std::string& kind, const Precision& precision) const;
};

}  // namespace quench
