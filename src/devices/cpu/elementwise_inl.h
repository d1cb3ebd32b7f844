// SiLU, residual add, row gather, over a vector class. Every output comes from its own inputs by
// the same instructions in whatever lane it falls, so ranges may begin anywhere.
#pragma once

#include "devices/cpu/exp_inl.h"
#include "devices/ops.h"

namespace quench {
namespace {

template <class V>
inline void silu_mul_all(const OpContext& context, const SiluMulArgs& a) {
  const Range range = worker_range(context.worker, a.count, 16);
  for (int64_t i = range.begin; i < range.end; i += V::kWidth) {
    const int64_t n = range.end - i < V::kWidth ? range.end - i : V::kWidth;
    const typename V::F gate = n == V::kWidth ? V::load(a.gate + i) : V::load_n(a.gate + i, n);
    const typename V::F up = n == V::kWidth ? V::load(a.up + i) : V::load_n(a.up + i, n);
    const typename V::F y = V::mul(V::mul(gate, sigmoid<V>(gate)), up);
    if (n == V::kWidth) {
      V::store(a.y + i, y);
    } else {
      V::store_n(a.y + i, y, n);
    }
  }
}

// x[0..n) += factor * y[0..n): rounded once.
template <class V>
inline void add_scaled(float* x, const float* y, float factor, int64_t n) {
  const typename V::F f = V::set1(factor);
  int64_t i = 0;
  for (; i + V::kWidth <= n; i += V::kWidth) {
    V::store(x + i, V::fma(f, V::load(y + i), V::load(x + i)));
  }
  if (i < n) V::store_n(x + i, V::fma(f, V::load_n(y + i, n - i), V::load_n(x + i, n - i)), n - i);
}

template <class V>
inline void add_all(const OpContext& context, const AddArgs& a) {
  const Range range = worker_range(context.worker, a.rows * a.cols, 16);
  for (int64_t i = range.begin; i < range.end;) {
    if (a.gate == nullptr) {
      add_scaled<V>(a.x + i, a.y + i, 1.0f, range.end - i);
      return;
    }
    const int64_t row = i / a.cols;
    const int64_t end = (row + 1) * a.cols < range.end ? (row + 1) * a.cols : range.end;
    float lanes[V::kWidth];
    V::store(lanes, sigmoid<V>(V::set1(a.gate[row])));
    add_scaled<V>(a.x + i, a.y + i, lanes[0], end - i);
    i = end;
  }
}

inline void gather_all(const OpContext& context, const GatherRowsArgs& a) {
  const Range range = worker_range(context.worker, a.num_rows);
  for (int64_t r = range.begin; r < range.end; ++r) {
    __builtin_memcpy(a.y + r * a.cols, a.x + a.rows[r] * a.cols,
                     static_cast<size_t>(a.cols) * sizeof(float));
  }
}

}  // namespace
}  // namespace quench
