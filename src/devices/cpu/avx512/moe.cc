// Mixture-of-experts routing and combination. Limit: routing is a few passes over each token's
// logits in L1; combining reads K rows per token.
#include "devices/cpu/moe_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void moe_route(const OpContext& context, const MoeRouteArgs& a) { moe_route_all<Vec>(context, a); }
void moe_combine(const OpContext& context, const MoeCombineArgs& a) {
  moe_combine_all<Vec>(context, a);
}

}  // namespace quench::avx512
