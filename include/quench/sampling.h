// How the next token is chosen and when a generation ends. Plain values: copy them freely.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "quench/result.h"

namespace quench {

// Temperatures below this one mean greedy, 0 included (vLLM's limit; dividing by less gains nothing
// but overflow).
constexpr double kMinTemperature = 1e-5;

// Applied in this order; every step is off at its default value:
//   1. logit_bias           logit += bias
//   2. repetition_penalty   each id of prompt and output once: logit < 0 ? logit * p : logit / p
//   3. frequency_penalty    logit -= penalty * (how often the id stands in the output)
//   4. presence_penalty     logit -= penalty, for ids in the output
//      greedy ends here: the largest logit, the lowest id where several are largest
//   5. temperature          logit /= temperature
//   6. top_k                keep logits >= the k-th largest (ties at the k-th all stay)
//   7. top_p                drop the least probable while their summed probability <= 1 - top_p;
//                           of equal logits the lowest id goes first; the last token always stays
//   8. min_p                drop probability < min_p * the largest probability
// Each of 7 and 8 normalizes over what the step before it left. 2 and 5 to 8 are the processors of
// Hugging Face transformers 5 in the order of its generate(); 1 stands first there too
// (sequence_bias), and 1 to 4 are in the order of vLLM's sampler.
struct SamplingSettings {
  double temperature = 1.0;              // 0 or more; below kMinTemperature: greedy
  int top_k = 0;                         // 0: off
  double top_p = 1.0;                    // 0 to 1; 1: off
  double min_p = 0.0;                    // 0 to 1; 0: off
  double repetition_penalty = 1.0;       // above 0; 1: off
  double presence_penalty = 0.0;         // -2 to 2
  double frequency_penalty = 0.0;        // -2 to 2
  std::map<int32_t, double> logit_bias;  // token id -> -100 to 100
  bool greedy = false;                   // wins over temperature and what follows it
  uint64_t seed = 0;                     // same prompt, settings and seed: same tokens
  int max_new_tokens = 512;              // 1 or more; a stop token counts as one of them
  std::vector<int32_t> stop_token_ids;
  std::vector<std::string> stop_strings;  // UTF-8, none empty
};

// kInvalidArgument with one sentence about the first setting that is out of its range.
Result<void> validate(const SamplingSettings& settings);

enum class FinishReason {
  kStop,       // a stop token or a stop string
  kLength,     // max_new_tokens were generated
  kCancelled,  // the caller no longer wants it
  kError,      // this request failed, e.g. its logits were not numbers
};

// "stop", "length", "cancelled", "error": as in JSON output.
const char* finish_reason_name(FinishReason reason);

}  // namespace quench
