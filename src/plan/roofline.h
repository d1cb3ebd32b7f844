// Roofline: the least time that one pass of a planned model can take on a machine with these
// ceilings. Pure functions; any thread.
#pragma once

#include "plan/ceilings.h"
#include "plan/plan.h"

namespace quench {

// One forward pass over `batch` sequences that are alike.
struct Pass {
  int64_t new_tokens = 1;  // of each sequence
  int64_t context = 0;     // tokens of each that are cached before
  int64_t batch = 1;
  int64_t logit_rows = 1;  // of the whole pass
};

struct PassLimit {
  int64_t read_bytes = 0;  // weights once, and the cached keys and values
  double f32_flop = 0.0;   // a multiply and an add are two
  double bf16_flop = 0.0;
  double int8_op = 0.0;
  double memory_s = 0.0;
  double compute_s = 0.0;

  double limit_s() const { return memory_s > compute_s ? memory_s : compute_s; }
  const char* bound() const { return memory_s > compute_s ? "memory" : "compute"; }
};

// Williams, Waterman, Patterson, "Roofline: an insightful visual performance model" (2009): reading
// and arithmetic overlap at best, so the larger of the two times is the limit. A matmul counts at
// the peak of the type that its kernel multiplies in, attention at that of the cache's type; the
// output head runs for logit_rows rows. Of E experts, of which each token takes K, T tokens are
// taken to touch E (1 - (1 - K/E)^T), what uniform routing gives. Norms, rotary embedding and
// activation functions are left out: under 1 % of either side.
PassLimit pass_limit(const Plan& plan, const Ceilings& ceilings, const Pass& pass);

}  // namespace quench
