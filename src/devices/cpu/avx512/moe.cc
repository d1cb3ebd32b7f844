// Mixture-of-experts routing and combination. Limit: routing is a few passes over each token's
// logits in L1: 340 ns per token for 8 of 128 experts. Combining reads K rows per token: 15 GB/s of
// rows in memory, 33 GB/s in cache (one core of a Zen 5).
#include "devices/cpu/moe_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void moe_route(const OpContext& context, const MoeRouteArgs& a) { moe_route_all<Vec>(context, a); }
void moe_combine(const OpContext& context, const MoeCombineArgs& a) {
  moe_combine_all<Vec>(context, a);
}

}  // namespace quench::avx512
