// What the planner must know of the KV cache: bytes and names. The layout inside a page belongs to
// the kernels.
#pragma once

#include <cstdint>

#include "devices/ops.h"

namespace quench {

struct KvTypeRow {
  KvType type;
  const char* name;
};
constexpr KvTypeRow kKvTypes[] = {
    {KvType::kF32, "f32"}, {KvType::kBf16, "bf16"}, {KvType::kInt8, "int8"}};

// Always inline: kernel folders must not emit shared copies of it.
[[gnu::always_inline]] constexpr int64_t kv_element_bytes(KvType type) {
  return type == KvType::kF32 ? 4 : type == KvType::kBf16 ? 2 : 1;
}

// Bytes of one page of one layer: keys and values of kPageTokens tokens, and their scales.
constexpr int64_t kv_page_bytes(KvType type, int64_t kv_heads, int64_t head_dim) {
  const int64_t scale_bytes = type == KvType::kInt8 ? 4 : 0;
  return 2 * kv_heads * kPageTokens * (head_dim * kv_element_bytes(type) + scale_bytes);
}

// Attention cuts the keys of a sequence into fixed segments of this many tokens, each with its own
// running maximum, and joins them in ascending order: the same numbers whichever worker did them.
constexpr int64_t kAttentionSegmentTokens = 512;
// A step with at most this many query rows (tokens x heads) may be cut inside a sequence, so that
// one long sequence keeps all workers busy; its segments then pass through scratch memory.
constexpr int64_t kAttentionSplitRows = 256;

// Scratch of one attention call with at most `max_tokens` tokens of sequences up to `max_seq_len`.
// A row's partial result: [head_dim rounded up to 16] sums, then the maximum and the weights' sum
// in a line of their own.
constexpr int64_t attention_scratch_bytes(int64_t max_tokens, int64_t heads, int64_t head_dim,
                                          int64_t max_seq_len) {
  const int64_t rows = max_tokens * heads;
  const int64_t segments = (max_seq_len + kAttentionSegmentTokens - 1) / kAttentionSegmentTokens;
  return (rows < kAttentionSplitRows ? rows : kAttentionSplitRows) * segments *
         ((head_dim + 15) / 16 * 16 + 16) * static_cast<int64_t>(sizeof(float));
}

}  // namespace quench
