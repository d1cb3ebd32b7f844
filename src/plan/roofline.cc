#include "plan/roofline.h"

#include <algorithm>
#include <cmath>

namespace quench {
namespace {

void add_ops(PassLimit& limit, Arithmetic arithmetic, double ops) {
  switch (arithmetic) {
    case Arithmetic::kF32:
      limit.f32_flop += ops;
      return;
    case Arithmetic::kBf16:
      limit.bf16_flop += ops;
      return;
    case Arithmetic::kInt8:
      limit.int8_op += ops;
      return;
  }
}

void add_matrix(const Plan& plan, const PlannedMatrix& matrix, const Pass& pass, PassLimit& limit) {
  const TensorSpec& spec = matrix.sources.front();
  const int64_t tokens = pass.new_tokens * pass.batch;
  const auto one_row = 2.0 * static_cast<double>(spec.rows) * static_cast<double>(spec.cols);
  if (spec.expert >= 0) {
    const auto experts = static_cast<double>(matrix.sources.size());
    const auto choices = static_cast<double>(plan.config.moe.num_experts_per_tok);
    const double touched =
        experts * (1.0 - std::pow(1.0 - choices / experts, static_cast<double>(tokens)));
    limit.read_bytes += std::llround(touched * static_cast<double>(matrix.bytes) / experts);
    add_ops(limit, matrix.kernel->arithmetic, one_row * choices * static_cast<double>(tokens));
    return;
  }
  const bool is_head =
      matrix.role == Role::kHead || (matrix.role == Role::kEmbedding && plan.tied_head);
  if (matrix.role == Role::kEmbedding && !is_head) {
    limit.read_bytes += std::min(tokens, spec.rows) * (matrix.bytes / spec.rows);
    return;
  }
  const int64_t rows = is_head ? pass.logit_rows : tokens;
  if (rows == 0) return;
  limit.read_bytes += matrix.bytes;
  add_ops(limit, matrix.kernel->arithmetic, one_row * static_cast<double>(rows));
}

// Keys that the queries at positions [context, context + new_tokens) see, summed.
int64_t keys_seen(const Pass& pass, int64_t window) {
  int64_t sum = 0;
  for (int64_t i = 0; i < pass.new_tokens; ++i) {
    const int64_t keys = pass.context + i + 1;
    sum += window > 0 ? std::min(keys, window) : keys;
  }
  return sum;
}

void add_attention(const Plan& plan, const Pass& pass, PassLimit& limit) {
  const ModelConfig& config = plan.config;
  const int64_t key_bytes = plan.kv_page_bytes / kPageTokens;  // and its value's, of one layer
  const Arithmetic arithmetic = plan.kv_type == KvType::kF32 ? Arithmetic::kF32 : Arithmetic::kBf16;
  for (const int64_t window : config.windows) {
    const int64_t cached = window > 0 ? std::min(pass.context, window - 1) : pass.context;
    limit.read_bytes += cached * key_bytes * pass.batch;
    // q . k and p v: two products of head_dim per query head.
    const auto per_key = static_cast<double>(4 * config.num_attention_heads * config.head_dim);
    add_ops(limit, arithmetic, per_key * static_cast<double>(keys_seen(pass, window) * pass.batch));
  }
}

}  // namespace

PassLimit pass_limit(const Plan& plan, const Ceilings& ceilings, const Pass& pass) {
  PassLimit limit;
  for (const PlannedMatrix& matrix : plan.matrices) add_matrix(plan, matrix, pass, limit);
  add_attention(plan, pass, limit);
  const double gb_s = ceilings.for_working_set(limit.read_bytes).read_gb_s.best;
  limit.memory_s = static_cast<double>(limit.read_bytes) / (gb_s * 1e9);
  limit.compute_s = limit.f32_flop / (ceilings.f32_gflop_s.best * 1e9) +
                    limit.bf16_flop / (ceilings.bf16_gflop_s.best * 1e9) +
                    limit.int8_op / (ceilings.int8_gop_s.best * 1e9);
  return limit;
}

}  // namespace quench
