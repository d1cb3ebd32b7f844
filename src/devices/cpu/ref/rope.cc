// Rotary position embedding (Su et al. 2021), NeoX layout: dimension i turns with dimension i +
// rotary_dim / 2.
#include <cmath>

#include "devices/cpu/ref/ref.h"

namespace quench::ref {

void rope_table(const OpContext& context, const RopeTableArgs& a) {
  const int64_t half = a.rotary_dim / 2;
  const Range range = worker_range(context.worker, a.num_tokens);
  for (int64_t t = range.begin; t < range.end; ++t) {
    float* row = a.cos_sin + t * a.rotary_dim;
    const float* inv_freq = a.inv_freq + a.table[t] * half;
    const float scale = a.scales[a.table[t]];
    for (int64_t i = 0; i < half; ++i) {
      // The angle is one f32 product, as in the official code; at position 100,000 its rounding is
      // visible.
      const float angle = static_cast<float>(a.positions[t]) * inv_freq[i];
      row[i] = std::cos(angle) * scale;
      row[half + i] = std::sin(angle) * scale;
    }
  }
}

void rope(const OpContext& context, const RopeArgs& a) {
  const int64_t half = a.rotary_dim / 2;
  const Range range = worker_range(context.worker, a.num_tokens * a.heads);
  for (int64_t row = range.begin; row < range.end; ++row) {
    const float* cosine = a.cos_sin + row / a.heads * a.rotary_dim;
    const float* sine = cosine + half;
    float* x = a.x + row * a.head_dim;
    for (int64_t i = 0; i < half; ++i) {
      const float x0 = x[i];
      const float x1 = x[i + half];
      x[i] = x0 * cosine[i] - x1 * sine[i];
      x[i + half] = x1 * cosine[i] + x0 * sine[i];
    }
  }
}

}  // namespace quench::ref
