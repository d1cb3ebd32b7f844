// Paged attention and the KV store. Keys are read in absolute 64-key blocks in ascending order with
// a running maximum (Milakov and Gimelshein 2018), so the result does not depend on how the
// sequence was cut into steps.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/float16.h"
#include "devices/cpu/ref/ref.h"
#include "devices/kv.h"

namespace quench::ref {
namespace {

constexpr int64_t kMaxHeadDim = 512;

// A page: [kv_heads, kPageTokens, head_dim] keys, as many values, and for int8 [kv_heads,
// kPageTokens] f32 scales of the keys and as many of the values.
struct PageRows {
  KvType type;
  int64_t kv_heads;
  int64_t head_dim;
  std::byte* page;

  // Row of a head's key (or value) at `slot`.
  std::byte* row(bool is_value, int64_t head, int64_t slot) const {
    const int64_t index = ((is_value ? kv_heads : 0) + head) * kPageTokens + slot;
    return page + index * head_dim * kv_element_bytes(type);
  }
  float& scale(bool is_value, int64_t head, int64_t slot) const {
    auto* scales = reinterpret_cast<float*>(row(false, 2 * kv_heads, 0));
    return scales[((is_value ? kv_heads : 0) + head) * kPageTokens + slot];
  }

  void store(bool is_value, int64_t head, int64_t slot, const float* x) const {
    std::byte* to = row(is_value, head, slot);
    switch (type) {
      case KvType::kF32:
        std::copy_n(x, head_dim, reinterpret_cast<float*>(to));
        break;
      case KvType::kBf16:
        std::transform(x, x + head_dim, reinterpret_cast<uint16_t*>(to), f32_to_bf16);
        break;
      case KvType::kInt8: {
        // The largest magnitude becomes +-127.
        float largest = 0.0f;
        bool is_finite = true;
        for (int64_t i = 0; i < head_dim; ++i) {
          is_finite = is_finite && std::isfinite(x[i]);
          largest = std::max(largest, std::abs(x[i]));
        }
        if (!is_finite) {  // and so becomes what is read
          scale(is_value, head, slot) = std::numeric_limits<float>::quiet_NaN();
          std::fill_n(reinterpret_cast<int8_t*>(to), head_dim, int8_t{0});
          break;
        }
        scale(is_value, head, slot) = largest / 127.0f;
        const float inverse = largest > 0.0f ? 1.0f / (largest / 127.0f) : 0.0f;
        for (int64_t i = 0; i < head_dim; ++i) {
          reinterpret_cast<int8_t*>(to)[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
        }
      }
    }
  }
  void load(bool is_value, int64_t head, int64_t slot, float* x) const {
    const std::byte* from = row(is_value, head, slot);
    switch (type) {
      case KvType::kF32:
        std::copy_n(reinterpret_cast<const float*>(from), head_dim, x);
        break;
      case KvType::kBf16:
        std::transform(reinterpret_cast<const uint16_t*>(from),
                       reinterpret_cast<const uint16_t*>(from) + head_dim, x, bf16_to_f32);
        break;
      case KvType::kInt8:
        for (int64_t i = 0; i < head_dim; ++i) {
          x[i] = reinterpret_cast<const int8_t*>(from)[i] * scale(is_value, head, slot);
        }
    }
  }
};

PageRows page_of(const KvPages& pages, const BatchView& batch, int64_t token, int64_t block,
                 int64_t kv_heads, int64_t head_dim) {
  const int64_t page = batch.page_table[batch.sequence[token] * batch.max_pages + block];
  return {pages.type, kv_heads, head_dim, pages.base + page * pages.page_bytes};
}

}  // namespace

void kv_store(const OpContext& context, const KvStoreArgs& a) {
  const Range range = worker_range(context.worker, a.batch.num_tokens);
  for (int64_t t = range.begin; t < range.end; ++t) {
    const int64_t position = a.batch.positions[t];
    const PageRows page =
        page_of(a.pages, a.batch, t, position / kPageTokens, a.kv_heads, a.head_dim);
    for (int64_t h = 0; h < a.kv_heads; ++h) {
      const int64_t from = (t * a.kv_heads + h) * a.head_dim;
      page.store(false, h, position % kPageTokens, a.k + from);
      page.store(true, h, position % kPageTokens, a.v + from);
    }
  }
}

void attention(const OpContext& context, const AttentionArgs& a) {
  const BatchView& batch = a.batch;
  const int64_t group = a.heads / a.kv_heads;
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
    float loaded[kMaxHeadDim];
    float maximum = -std::numeric_limits<float>::infinity();
    float sum = 0.0f;
    for (int64_t block = first_key / kPageTokens; block <= position / kPageTokens; ++block) {
      const PageRows page = page_of(a.pages, batch, t, block, a.kv_heads, a.head_dim);
      const int64_t begin = std::max(first_key - block * kPageTokens, int64_t{0});
      const int64_t end = std::min(position - block * kPageTokens + 1, kPageTokens);
      float scores[kPageTokens];
      float block_maximum = maximum;
      for (int64_t s = begin; s < end; ++s) {
        page.load(false, kv_head, s, loaded);
        float dot = 0.0f;
        for (int64_t i = 0; i < a.head_dim; ++i) dot += q[i] * loaded[i];
        scores[s] = dot * scale;
        block_maximum = std::max(block_maximum, scores[s]);
      }
      const float rescale = std::exp(maximum - block_maximum);
      maximum = block_maximum;
      sum *= rescale;
      for (int64_t i = 0; i < a.head_dim; ++i) accumulated[i] *= rescale;
      for (int64_t s = begin; s < end; ++s) {
        page.load(true, kv_head, s, loaded);
        const float weight = std::exp(scores[s] - maximum);
        sum += weight;
        for (int64_t i = 0; i < a.head_dim; ++i) accumulated[i] += weight * loaded[i];
      }
    }
    for (int64_t i = 0; i < a.head_dim; ++i) out[i] = accumulated[i] / sum;
  }
}

}  // namespace quench::ref
