// Rotary position embedding (Su et al. 2021) over a vector class, NeoX layout.
#pragma once

#include "devices/ops.h"

namespace quench {
namespace {

// Cosine and sine of `angle` (finite, below 2^31 quarter turns). V::quarter_turn reduces in double;
// the polynomials on [-pi/4, pi/4], fitted to the absolute error, are off by less than 2e-9.
template <class V>
inline void cos_sin(typename V::F angle, typename V::F* cosine, typename V::F* sine) {
  using F = typename V::F;
  F r;
  const typename V::I quarter = V::quarter_turn(angle, &r);
  const F r2 = V::mul(r, r);
  F s = V::fma(V::set1(-1.9495633930e-04f), r2, V::set1(8.3319786450e-03f));
  s = V::fma(s, r2, V::set1(-1.6666650669e-01f));
  s = V::fma(V::mul(s, r2), r, r);
  F c = V::fma(V::set1(2.4438449516e-05f), r2, V::set1(-1.3887367498e-03f));
  c = V::fma(c, r2, V::set1(4.1666646866e-02f));
  c = V::fma(c, r2, V::set1(-0.5f));
  c = V::fma(c, r2, V::set1(1.0f));
  // cos(q pi/2 + r): c, -s, -c, s; sin: s, c, -s, -c.
  *cosine = V::negate_if_bit1(V::choose_if_bit0(quarter, s, c), V::plus_one(quarter));
  *sine = V::negate_if_bit1(V::choose_if_bit0(quarter, c, s), quarter);
}

template <class V>
inline void rope_table_rows(const OpContext& context, const RopeTableArgs& a) {
  const int64_t half = a.rotary_dim / 2;
  const Range range = worker_range(context.worker, a.num_tokens);
  for (int64_t t = range.begin; t < range.end; ++t) {
    float* row = a.cos_sin + t * a.rotary_dim;
    const float* inv_freq = a.inv_freq + a.table[t] * half;
    const typename V::F scale = V::set1(a.scales[a.table[t]]);
    const typename V::F position = V::set1(static_cast<float>(a.positions[t]));
    for (int64_t i = 0; i < half; i += V::kWidth) {
      const int64_t n = half - i < V::kWidth ? half - i : V::kWidth;
      typename V::F cosine;
      typename V::F sine;
      // The angle is one f32 product, as in the official code.
      cos_sin<V>(V::mul(position, V::load_n(inv_freq + i, n)), &cosine, &sine);
      V::store_n(row + i, V::mul(cosine, scale), n);
      V::store_n(row + half + i, V::mul(sine, scale), n);
    }
  }
}

template <class V>
inline void rope_rows(const OpContext& context, const RopeArgs& a) {
  const int64_t half = a.rotary_dim / 2;
  const Range range = worker_range(context.worker, a.num_tokens * a.heads);
  for (int64_t row = range.begin; row < range.end; ++row) {
    const float* cosine = a.cos_sin + row / a.heads * a.rotary_dim;
    const float* sine = cosine + half;
    float* x = a.x + row * a.head_dim;
    for (int64_t i = 0; i < half; i += V::kWidth) {
      const int64_t n = half - i < V::kWidth ? half - i : V::kWidth;
      const typename V::F x0 = V::load_n(x + i, n);
      const typename V::F x1 = V::load_n(x + half + i, n);
      const typename V::F c = V::load_n(cosine + i, n);
      const typename V::F s = V::load_n(sine + i, n);
      V::store_n(x + i, V::fnma(x1, s, V::mul(x0, c)), n);
      V::store_n(x + half + i, V::fma(x0, s, V::mul(x1, c)), n);
    }
  }
}

}  // namespace
}  // namespace quench
