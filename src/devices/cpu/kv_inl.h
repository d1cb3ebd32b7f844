// The KV page of the vector levels, and its store. Per head: a key panel, a value panel, then
// (int8) 64 key scales and 64 value scales.
//
// The key panel is transposed, so that a vector lane is a key: [head_dim, 64] f32, or in pairs of
// dimensions [head_dim / 2, 64, 2] bf16 or int8. The value panel has a lane per dimension: [64,
// head_dim] f32, or in pairs of keys [32, head_dim, 2]. A pair of bf16 is one 32-bit lane, which is
// what VDPBF16PS multiplies and what a shift and a mask take apart.
#pragma once

#include <cstddef>
#include <cstdint>

#include "devices/kv.h"
#include "devices/ops.h"

namespace quench {
namespace {

struct KvLayout {
  int64_t panel_bytes;  // keys or values of one head
  int64_t head_bytes;   // both and their scales
};

inline KvLayout kv_layout(KvType type, int64_t head_dim) {
  const int64_t panel_bytes = kPageTokens * head_dim * kv_element_bytes(type);
  return {panel_bytes, 2 * panel_bytes + (type == KvType::kInt8 ? 2 * kPageTokens * 4 : 0)};
}

// Consecutive tokens of one sequence at consecutive positions.
struct KvRun {
  int64_t first;
  int64_t count;
};

inline KvRun kv_run_at(const BatchView& batch, int64_t first) {
  int64_t end = first + 1;
  while (end < batch.num_tokens && batch.sequence[end] == batch.sequence[first] &&
         batch.positions[end] == batch.positions[end - 1] + 1) {
    ++end;
  }
  return {first, end - first};
}

inline std::byte* kv_head(const KvPages& pages, const BatchView& batch, int64_t token,
                          int64_t block, int64_t head, const KvLayout& layout) {
  const int64_t page = batch.page_table[batch.sequence[token] * batch.max_pages + block];
  return pages.base + page * pages.page_bytes + head * layout.head_bytes;
}

// Round to nearest, ties to even; NaN stays NaN.
inline uint16_t kv_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Element (row, lane) of a panel of pairs with `lanes` lanes.
inline int64_t pair_index(int64_t row, int64_t lane, int64_t lanes) {
  return (row / 2 * lanes + lane) * 2 + row % 2;
}

// The scale that makes the largest magnitude 127; no number where one of x is none or infinite.
inline float kv_int8_scale(const float* x, int64_t n) {
  float largest = 0.0f;
  float strange = 0.0f;  // 0, or not a number
  for (int64_t i = 0; i < n; ++i) {
    const float magnitude = __builtin_fabsf(x[i]);
    largest = magnitude > largest ? magnitude : largest;
    strange += x[i] - x[i];
  }
  return largest / 127.0f + strange;
}

inline int8_t kv_int8(float x, float inverse) {
  // Adding 1.5 * 2^23 leaves the rounded integer in the low mantissa bits.
  const float shifted = x * inverse + 12582912.0f;
  uint32_t bits;
  __builtin_memcpy(&bits, &shifted, 4);
  return static_cast<int8_t>(bits & 0xffu);
}

inline void kv_store_row(KvType type, std::byte* head, const KvLayout& layout, int64_t slot,
                         const float* k, const float* v, int64_t head_dim) {
  std::byte* values = head + layout.panel_bytes;
  if (type == KvType::kF32) {
    auto* to_k = reinterpret_cast<float*>(head) + slot;
    auto* to_v = reinterpret_cast<float*>(values) + slot * head_dim;
    for (int64_t i = 0; i < head_dim; ++i) to_k[i * kPageTokens] = k[i];
    for (int64_t i = 0; i < head_dim; ++i) to_v[i] = v[i];
  } else if (type == KvType::kBf16) {
    auto* to_k = reinterpret_cast<uint16_t*>(head) + slot * 2;
    auto* to_v = reinterpret_cast<uint16_t*>(values) + pair_index(slot, 0, head_dim);
    for (int64_t i = 0; i < head_dim; i += 2) {
      const uint32_t pair = kv_bf16(k[i]) | static_cast<uint32_t>(kv_bf16(k[i + 1])) << 16;
      __builtin_memcpy(to_k + i * kPageTokens, &pair, 4);
    }
    for (int64_t i = 0; i < head_dim; ++i) to_v[i * 2] = kv_bf16(v[i]);
  } else {
    auto* to_k = reinterpret_cast<int8_t*>(head) + slot * 2;
    auto* to_v = reinterpret_cast<int8_t*>(values) + pair_index(slot, 0, head_dim);
    auto* scales = reinterpret_cast<float*>(values + layout.panel_bytes) + slot;
    scales[0] = kv_int8_scale(k, head_dim);
    scales[kPageTokens] = kv_int8_scale(v, head_dim);
    const float inverse_k = scales[0] > 0.0f ? 1.0f / scales[0] : 0.0f;
    const float inverse_v = scales[kPageTokens] > 0.0f ? 1.0f / scales[kPageTokens] : 0.0f;
    for (int64_t i = 0; i < head_dim; i += 2) {
      to_k[i * kPageTokens] = kv_int8(k[i], inverse_k);
      to_k[i * kPageTokens + 1] = kv_int8(k[i + 1], inverse_k);
    }
    for (int64_t i = 0; i < head_dim; ++i) to_v[i * 2] = kv_int8(v[i], inverse_v);
  }
}

// A worker owns whole (block, head) pairs: neighbouring tokens share the 32-bit lanes of a panel.
inline void kv_store_blocks(const OpContext& context, const KvStoreArgs& a) {
  const BatchView& batch = a.batch;
  const KvLayout layout = kv_layout(a.pages.type, a.head_dim);
  int64_t item = 0;
  for (int64_t t = 0; t < batch.num_tokens;) {
    const KvRun run = kv_run_at(batch, t);
    const int64_t slot = batch.positions[t] % kPageTokens;
    const int64_t room = kPageTokens - slot;
    // Up to the end of the block or of the run.
    const int64_t count = run.count < room ? run.count : room;
    for (int64_t h = 0; h < a.kv_heads; ++h, ++item) {
      if (item % context.worker.count != context.worker.index) continue;
      std::byte* head = kv_head(a.pages, batch, t, batch.positions[t] / kPageTokens, h, layout);
      // Attention multiplies the unused slots by zero, so they must be numbers.
      if (slot == 0) __builtin_memset(head, 0, static_cast<size_t>(layout.head_bytes));
      for (int64_t i = 0; i < count; ++i) {
        const int64_t from = ((t + i) * a.kv_heads + h) * a.head_dim;
        kv_store_row(a.pages.type, head, layout, slot + i, a.k + from, a.v + from, a.head_dim);
      }
    }
    t += count;
  }
}

}  // namespace
}  // namespace quench
