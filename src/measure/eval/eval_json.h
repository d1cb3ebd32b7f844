// quench.eval/1: the JSON of an evaluation of one model; documented in docs/measuring.md.
#pragma once

#include "base/json.h"
#include "measure/eval/evaluate.h"

namespace quench {

// model, reference: what is known of the two; reference null without one.
// max_tokens_per_domain: to which the texts were cut; 0: not at all.
Json eval_json(const Evaluation& evaluation, const ModelScores& scores, Json model, Json reference,
               int64_t max_tokens_per_domain);

}  // namespace quench
