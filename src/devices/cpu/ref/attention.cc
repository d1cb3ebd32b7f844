// Paged attention and the KV store. Keys are read in absolute 64-key blocks in ascending order with
// a running maximum (Milakov and Gimelshein 2018), so the result does not depend on how the
// sequence was cut into steps.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/float16.h"
#include "devices/cpu/ref/ref.h"

namespace quench::ref {
namespace {

constexpr int64_t kMaxHeadDim = 512;

int64_t element_bytes(KvType type) { return type == KvType::kF32 ? 4 : 2; }

// Element `index` of the row that starts at `row`.
float load_kv(KvType type, const std::byte* row, int64_t index) {
  if (type == KvType::kF32) return reinterpret_cast<const float*>(row)[index];
  return bf16_to_f32(reinterpret_cast<const uint16_t*>(row)[index]);
}

void store_kv(KvType type, std::byte* row, int64_t index, float value) {
  if (type == KvType::kF32) {
    reinterpret_cast<float*>(row)[index] = value;
  } else {
    reinterpret_cast<uint16_t*>(row)[index] = f32_to_bf16(value);
  }
}

// The key row of `head` at `slot` of a page; the value row lies kv_heads * kPageTokens rows
// further.
std::byte* key_row(const KvPages& pages, int64_t page, int64_t head, int64_t slot,
                   int64_t head_dim) {
  return pages.base + page * pages.page_bytes +
         (head * kPageTokens + slot) * head_dim * element_bytes(pages.type);
}

}  // namespace

void kv_store(const OpContext& context, const KvStoreArgs& a) {
  const BatchView& batch = a.batch;
  const int64_t value_offset = a.kv_heads * kPageTokens * a.head_dim * element_bytes(a.pages.type);
  const Range range = worker_range(context.worker, batch.num_tokens);
  for (int64_t t = range.begin; t < range.end; ++t) {
    const int64_t position = batch.positions[t];
    const int32_t page =
        batch.page_table[batch.sequence[t] * batch.max_pages + position / kPageTokens];
    for (int64_t h = 0; h < a.kv_heads; ++h) {
      std::byte* key = key_row(a.pages, page, h, position % kPageTokens, a.head_dim);
      const int64_t from = (t * a.kv_heads + h) * a.head_dim;
      for (int64_t i = 0; i < a.head_dim; ++i) {
        store_kv(a.pages.type, key, i, a.k[from + i]);
        store_kv(a.pages.type, key + value_offset, i, a.v[from + i]);
      }
    }
  }
}

void attention(const OpContext& context, const AttentionArgs& a) {
  const BatchView& batch = a.batch;
  const KvType type = a.pages.type;
  const int64_t group = a.heads / a.kv_heads;
  const int64_t value_offset = a.kv_heads * kPageTokens * a.head_dim * element_bytes(type);
  const Range range = worker_range(context.worker, batch.num_tokens * a.heads);
  for (int64_t row = range.begin; row < range.end; ++row) {
    const int64_t t = row / a.heads;
    const int64_t kv_head = row % a.heads / group;
    const int64_t position = batch.positions[t];
    const int64_t first_key = a.window > 0 ? std::max<int64_t>(0, position - a.window + 1) : 0;
    const float scale = a.scale * (a.query_scale != nullptr ? a.query_scale[t] : 1.0f);
    const float* q = a.q + row * a.head_dim;
    float* out = a.out + row * a.head_dim;

    float accumulated[kMaxHeadDim] = {};
    float maximum = -std::numeric_limits<float>::infinity();
    float sum = 0.0f;
    for (int64_t block = first_key / kPageTokens; block <= position / kPageTokens; ++block) {
      const int32_t page = batch.page_table[batch.sequence[t] * batch.max_pages + block];
      const int64_t begin = std::max(first_key - block * kPageTokens, int64_t{0});
      const int64_t end = std::min(position - block * kPageTokens + 1, kPageTokens);
      float scores[kPageTokens];
      float block_maximum = maximum;
      for (int64_t s = begin; s < end; ++s) {
        const std::byte* key = key_row(a.pages, page, kv_head, s, a.head_dim);
        float dot = 0.0f;
        for (int64_t i = 0; i < a.head_dim; ++i) dot += q[i] * load_kv(type, key, i);
        scores[s] = dot * scale;
        block_maximum = std::max(block_maximum, scores[s]);
      }
      const float rescale = std::exp(maximum - block_maximum);
      maximum = block_maximum;
      sum *= rescale;
      for (int64_t i = 0; i < a.head_dim; ++i) accumulated[i] *= rescale;
      for (int64_t s = begin; s < end; ++s) {
        const std::byte* value = key_row(a.pages, page, kv_head, s, a.head_dim) + value_offset;
        const float weight = std::exp(scores[s] - maximum);
        sum += weight;
        for (int64_t i = 0; i < a.head_dim; ++i) accumulated[i] += weight * load_kv(type, value, i);
      }
    }
    for (int64_t i = 0; i < a.head_dim; ++i) out[i] = accumulated[i] / sum;
  }
}

}  // namespace quench::ref
