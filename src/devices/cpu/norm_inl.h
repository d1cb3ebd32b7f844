// Root mean square normalisation (Zhang and Sennrich 2019) over a vector class. A row belongs to
// one worker; its sum of squares is kept in four vectors of lanes and joined in a fixed order.
#pragma once

#include "devices/ops.h"

namespace quench {
namespace {

template <class V>
inline float sum_of_squares(const float* x, int64_t n) {
  using F = typename V::F;
  constexpr int64_t kStep = 4 * V::kWidth;
  F sums[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      const F v = V::load(x + i + s * V::kWidth);
      sums[s] = V::fma(v, v, sums[s]);
    }
  }
  for (; i < n; i += V::kWidth) {
    const F v = V::load_n(x + i, n - i < V::kWidth ? n - i : V::kWidth);
    sums[0] = V::fma(v, v, sums[0]);
  }
  return V::reduce_add(V::add(V::add(sums[0], sums[1]), V::add(sums[2], sums[3])));
}

template <class V>
inline void rms_norm_rows(const OpContext& context, const RmsNormArgs& a) {
  using F = typename V::F;
  const Range range = worker_range(context.worker, a.rows);
  for (int64_t r = range.begin; r < range.end; ++r) {
    const float* x = a.x + r * a.cols;
    float* y = a.y + r * a.cols;
    const float mean = sum_of_squares<V>(x, a.cols) / static_cast<float>(a.cols);
    float lanes[V::kWidth];
    V::store(lanes, V::div(V::set1(1.0f), V::sqrt(V::set1(mean + a.eps))));
    const F scale = V::set1(lanes[0]);
    int64_t i = 0;
    for (; i + V::kWidth <= a.cols; i += V::kWidth) {
      V::store(y + i, V::mul(V::mul(V::load(x + i), scale), V::load(a.weight + i)));
    }
    if (i == a.cols) continue;
    const int64_t n = a.cols - i;
    V::store_n(y + i, V::mul(V::mul(V::load_n(x + i, n), scale), V::load_n(a.weight + i, n)), n);
  }
}

}  // namespace
}  // namespace quench
