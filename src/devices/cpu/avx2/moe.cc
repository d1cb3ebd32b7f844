// Mixture-of-experts routing and combination. Limit: passes over each token's logits in L1; reading
// K rows per token. Share not measured yet.
#include "devices/cpu/moe_inl.h"

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {

void moe_route(const OpContext& context, const MoeRouteArgs& a) { moe_route_all<Vec>(context, a); }
void moe_combine(const OpContext& context, const MoeCombineArgs& a) {
  moe_combine_all<Vec>(context, a);
}

}  // namespace quench::avx2
