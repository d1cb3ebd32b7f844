// Mixture-of-experts routing and combination. Limit: routing is a few passes over each token's
// logits in L1; combining reads K rows per token.
#include "devices/cpu/moe_inl.h"

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {

void moe_route(const OpContext& context, const MoeRouteArgs& a) { moe_route_all<Vec>(context, a); }
void moe_combine(const OpContext& context, const MoeCombineArgs& a) {
  moe_combine_all<Vec>(context, a);
}

}  // namespace quench::avx2
