// The ops of the avx512 level; see devices/ops.h for what they do.
#pragma once

#include "devices/ops.h"

namespace quench::avx512 {

void rms_norm(const OpContext& context, const RmsNormArgs& a);
void rope_table(const OpContext& context, const RopeTableArgs& a);
void rope(const OpContext& context, const RopeArgs& a);
void kv_store(const OpContext& context, const KvStoreArgs& a);
void attention(const OpContext& context, const AttentionArgs& a);
void silu_mul(const OpContext& context, const SiluMulArgs& a);
void add(const OpContext& context, const AddArgs& a);
void moe_route(const OpContext& context, const MoeRouteArgs& a);
void moe_combine(const OpContext& context, const MoeCombineArgs& a);
void gather_rows(const OpContext& context, const GatherRowsArgs& a);
void transform(const OpContext& context, const TransformArgs& a);
void trellis_step(const TrellisStepArgs& a);

}  // namespace quench::avx512
