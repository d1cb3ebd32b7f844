// generation_config.json, the defaults a model's publisher recommends.
#pragma once

#include <string_view>

#include "base/json.h"
#include "quench/sampling.h"

namespace quench {

// `base` with the values of a generation_config.json put over it. Read are: do_sample (false sets
// greedy, true clears it; where the key is absent `base` decides, although transformers would then
// be greedy), temperature, top_k, top_p, min_p, repetition_penalty, max_new_tokens, eos_token_id (a
// number or a list) and stop_strings (a string or a list), the last two added to those of `base`.
// null counts as absent, other keys are ignored. kInvalidFile when a value has the wrong type or
// range; `where` names the file in the message.
//
// A caller that lets a request override the temperature clears `greedy` with it.
Result<SamplingSettings> merge_generation_config(const Json& config, std::string_view where,
                                                 SamplingSettings base = {});

}  // namespace quench
