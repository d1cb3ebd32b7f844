// The reference: every op in plain C++, compiled without contraction of a*b+c. Right and readable
// before fast; every other kernel is judged against these functions.
#pragma once

#include "devices/matmul.h"
#include "devices/ops.h"
#include "devices/probes.h"

namespace quench::ref {

void rms_norm(const OpContext& context, const RmsNormArgs& args);
void rope_table(const OpContext& context, const RopeTableArgs& args);
void rope(const OpContext& context, const RopeArgs& args);
void kv_store(const OpContext& context, const KvStoreArgs& args);
void attention(const OpContext& context, const AttentionArgs& args);
void silu_mul(const OpContext& context, const SiluMulArgs& args);
void add(const OpContext& context, const AddArgs& args);
void moe_route(const OpContext& context, const MoeRouteArgs& args);
void moe_combine(const OpContext& context, const MoeCombineArgs& args);
void gather_rows(const OpContext& context, const GatherRowsArgs& args);
void transform(const OpContext& context, const TransformArgs& args);

// Every format: decodes a few rows to f32, then dense dot products. Its packed layout is the
// canonical one.
extern const MatmulKernel matmul;
extern const Probes probes;

}  // namespace quench::ref
