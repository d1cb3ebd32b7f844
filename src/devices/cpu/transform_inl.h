// The transforms of a matmul's input (formats/input_transform.h, formats/hadamard.h), over a vector
// class. A row is one worker's; the additions of an output have one order.
#pragma once

#include "devices/ops.h"

namespace quench {
namespace {

// Hadamard butterflies of spans 1 to 8 inside sixteen neighbours.
inline void hadamard16(float* v) {
  for (int64_t half = 1; half < 16; half *= 2) {
    float t[16];
    for (int64_t i = 0; i < 16; ++i) {
      const float other = v[i ^ half];
      t[i] = (i & half) != 0 ? other - v[i] : v[i] + other;
    }
    for (int64_t i = 0; i < 16; ++i) v[i] = t[i];
  }
}

// Orthonormal, in place, n a power of two.
template <class V>
inline void hadamard(float* v, int64_t n) {
  int64_t half = 1;
  if (n >= 16) {
    for (int64_t i = 0; i < n; i += 16) hadamard16(v + i);
    half = 16;
  }
  for (; half < n; half *= 2) {
    for (int64_t i = 0; i < n; i += 2 * half) {
      float* low = v + i;
      float* high = low + half;
      if (half >= V::kWidth) {
        for (int64_t j = 0; j < half; j += V::kWidth) {
          const typename V::F a = V::load(low + j);
          const typename V::F b = V::load(high + j);
          V::store(low + j, V::add(a, b));
          V::store(high + j, V::sub(a, b));
        }
      } else {
        for (int64_t j = 0; j < half; ++j) {
          const float a = low[j];
          const float b = high[j];
          low[j] = a + b;
          high[j] = a - b;
        }
      }
    }
  }
  float lanes[V::kWidth];
  V::store(lanes, V::div(V::set1(1.0f), V::sqrt(V::set1(static_cast<float>(n)))));
  for (int64_t i = 0; i < n; ++i) v[i] *= lanes[0];
}

// The Hartley matrix across m blocks of `block` floats, a few positions at a time.
template <class V>
inline void across_blocks(float* v, int64_t m, int64_t block, const float* hartley) {
  constexpr int64_t kMaxBlocks = 512;
  float in[kMaxBlocks * V::kWidth];
  for (int64_t first = 0; first < block; first += V::kWidth) {
    const int64_t n = block - first < V::kWidth ? block - first : V::kWidth;
    for (int64_t j = 0; j < m; ++j)
      V::store(in + j * V::kWidth, V::load_n(v + j * block + first, n));
    for (int64_t i = 0; i < m; ++i) {
      const float* row = hartley + i * m;
      typename V::F sum = V::zero();
      for (int64_t j = 0; j < m; ++j)
        sum = V::fma(V::set1(row[j]), V::load(in + j * V::kWidth), sum);
      V::store_n(v + i * block + first, sum, n);
    }
  }
}

template <class V>
inline void transform_rows(const OpContext& context, const TransformArgs& a) {
  const Range range = worker_range(context.worker, a.rows);
  for (int64_t r = range.begin; r < range.end; ++r) {
    const float* x = a.x + r * a.cols;
    float* y = a.y + r * a.cols;
    if (a.permutation != nullptr) {
      for (int64_t i = 0; i < a.cols; ++i) {
        if (a.inverse) {
          y[a.permutation[i]] = x[i];
        } else {
          y[i] = x[a.permutation[i]];
        }
      }
      continue;
    }
    for (int64_t i = 0; i < a.cols; ++i) y[i] = a.inverse ? x[i] : a.signs[i] * x[i];
    const int64_t block = a.cols / a.odd;
    for (int64_t b = 0; b < a.odd; ++b) hadamard<V>(y + b * block, block);
    if (a.odd > 1) across_blocks<V>(y, a.odd, block, a.hartley);
    if (!a.inverse) continue;
    for (int64_t i = 0; i < a.cols; ++i) y[i] *= a.signs[i];
  }
}

}  // namespace
}  // namespace quench
