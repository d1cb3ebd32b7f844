// Matmul of float strips (strip_inl.h), as templates over a vector class and a weight class.
//
// Arithmetic, the same for every m, thread count and call: acc = step(acc, weights, input) over the
// columns in ascending order, from 0; y = acc + bias. A step is one fused multiply-add per column
// on f32 inputs, or one VDPBF16PS per two columns on inputs rounded to bf16.
#pragma once

#include "devices/cpu/strip_inl.h"

namespace quench {
namespace {

// Weight classes. kCells steps of kCellColumns columns; X is the input's element.
template <class V>
struct F32Weights {
  using X = float;
  static constexpr int kBytes = 4;        // of a weight
  static constexpr int kStepColumns = 1;  // per step
  template <int kTokens, int kVectors>
  static void step(const std::byte* const (&w)[kVectors], const float* const (&x)[kTokens],
                   typename V::F (&acc)[kTokens][kVectors]) {
    typename V::F weights[kVectors];
    for (int v = 0; v < kVectors; ++v) weights[v] = V::load(reinterpret_cast<const float*>(w[v]));
    for (int t = 0; t < kTokens; ++t) {
      const typename V::F input = V::set1(x[t][0]);
      for (int v = 0; v < kVectors; ++v) acc[t][v] = V::fma(weights[v], input, acc[t][v]);
    }
  }
};

template <class V>
struct F16Weights {
  using X = float;
  static constexpr int kBytes = 2;
  static constexpr int kStepColumns = 1;
  template <int kTokens, int kVectors>
  static void step(const std::byte* const (&w)[kVectors], const float* const (&x)[kTokens],
                   typename V::F (&acc)[kTokens][kVectors]) {
    typename V::F weights[kVectors];
    for (int v = 0; v < kVectors; ++v) weights[v] = V::load_f16(w[v]);
    for (int t = 0; t < kTokens; ++t) {
      const typename V::F input = V::set1(x[t][0]);
      for (int v = 0; v < kVectors; ++v) acc[t][v] = V::fma(weights[v], input, acc[t][v]);
    }
  }
};

// bf16 weights with exact f32 inputs: the even column is the low half of a lane.
template <class V>
struct Bf16Weights {
  using X = float;
  static constexpr int kBytes = 2;
  static constexpr int kStepColumns = 2;
  template <int kTokens, int kVectors>
  static void step(const std::byte* const (&w)[kVectors], const float* const (&x)[kTokens],
                   typename V::F (&acc)[kTokens][kVectors]) {
    typename V::F even[kVectors];
    typename V::F odd[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const typename V::I pair = V::load_int(w[v]);
      even[v] = V::as_float(V::left32(pair, 16));
      odd[v] = V::as_float(V::bit_and(pair, V::set32(static_cast<int32_t>(0xffff0000u))));
    }
    for (int t = 0; t < kTokens; ++t) {
      const typename V::F first = V::set1(x[t][0]);
      for (int v = 0; v < kVectors; ++v) acc[t][v] = V::fma(even[v], first, acc[t][v]);
      const typename V::F second = V::set1(x[t][1]);
      for (int v = 0; v < kVectors; ++v) acc[t][v] = V::fma(odd[v], second, acc[t][v]);
    }
  }
};

// Columns whose weights (64 rows) stay in the first-level cache while all tokens use them: 32 KiB.
template <class W>
constexpr int64_t cached_columns() {
  return 512 / W::kBytes;
}

// acc[t][v] += columns [0, columns); w[v] and x[t] point at the first.
template <class V, class W, int kTokens, int kVectors>
void float_columns(const std::byte* (&w)[kVectors], const typename W::X* (&x)[kTokens],
                   int64_t columns, typename V::F (&acc)[kTokens][kVectors]) {
  constexpr int64_t kStepBytes = kStripRows * W::kBytes * W::kStepColumns;
  for (int64_t c = 0; c < columns; c += W::kStepColumns) {
    W::template step<kTokens, kVectors>(w, x, acc);
    for (int v = 0; v < kVectors; ++v) w[v] += kStepBytes;
    for (int t = 0; t < kTokens; ++t) x[t] += W::kStepColumns;
  }
}

// As above, asking memory for what comes next: for weights that are used once.
template <class V, class W, int kTokens, int kVectors>
void streamed_columns(const std::byte* (&w)[kVectors], const typename W::X* (&x)[kTokens],
                      int64_t columns, typename V::F (&acc)[kTokens][kVectors]) {
  constexpr int64_t kStepBytes = kStripRows * W::kBytes * W::kStepColumns;
  constexpr int64_t kAheadBytes = 2048;
  for (int64_t c = 0; c < columns; c += W::kStepColumns) {
    for (int v = 0; v < kVectors; ++v) V::prefetch(w[v] + kAheadBytes);
    W::template step<kTokens, kVectors>(w, x, acc);
    for (int v = 0; v < kVectors; ++v) w[v] += kStepBytes;
    for (int t = 0; t < kTokens; ++t) x[t] += W::kStepColumns;
  }
}

struct FloatJob {
  const Weight* weight;
  const std::byte* packed;
  const MatmulArgs* args;
  const void* x;  // [x_rows, k] elements of W::X
  float* y;       // [m, n]
  int64_t token_begin;
  int64_t token_end;
};

template <class V, class W, int kTokens, int kVectors>
void float_tile(const FloatJob& job, int64_t first, int64_t token, int64_t column, int64_t columns,
                bool streamed) {
  constexpr int64_t kPerStrip = kStripRows / V::kWidth;
  const Weight& weight = *job.weight;
  const int64_t strip_bytes = kStripRows * W::kBytes * weight.k;
  const std::byte* w[kVectors];
  const typename W::X* x[kTokens];
  typename V::F acc[kTokens][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    w[v] = job.packed + (first / kStripRows + v / kPerStrip) * strip_bytes +
           column * kStripRows * W::kBytes +
           v % kPerStrip * V::kWidth * W::kBytes * W::kStepColumns;
  }
  // Outputs past n exist in the strip only; y has no room for them.
  const int64_t rest = weight.n - first;
  const int64_t count = rest < kVectors * V::kWidth ? rest : kVectors * V::kWidth;
  alignas(64) float values[kTokens][kVectors * V::kWidth] = {};
  for (int t = 0; t < kTokens; ++t) {
    const int64_t row = token + t;
    const int64_t from = job.args->rows != nullptr ? job.args->rows[row] : row;
    x[t] = static_cast<const typename W::X*>(job.x) + from * weight.k + column;
    const float* y = job.y + row * weight.n + first;
    if (column > 0)
      for (int64_t i = 0; i < count; ++i) values[t][i] = y[i];
  }
  // Loops of their own, so that the accumulators live in registers and in nothing else.
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) acc[t][v] = V::load(values[t] + v * V::kWidth);
  if (streamed) {
    streamed_columns<V, W, kTokens, kVectors>(w, x, columns, acc);
  } else {
    float_columns<V, W, kTokens, kVectors>(w, x, columns, acc);
  }
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) V::store(values[t] + v * V::kWidth, acc[t][v]);
  const float* bias =
      weight.bias != nullptr && column + columns == weight.k ? weight.bias + first : nullptr;
  for (int t = 0; t < kTokens; ++t) {
    float* y = job.y + (token + t) * weight.n + first;
    for (int64_t i = 0; i < count; ++i)
      y[i] = bias == nullptr ? values[t][i] : values[t][i] + bias[i];
  }
}

template <class V, class W, int kVectors>
void float_tokens(const FloatJob& job, int64_t first, int64_t token, int64_t count, int64_t column,
                  int64_t columns, bool streamed) {
  switch (count) {
    case 1:
      return float_tile<V, W, 1, kVectors>(job, first, token, column, columns, streamed);
    case 2:
      return float_tile<V, W, 2, kVectors>(job, first, token, column, columns, streamed);
    case 3:
      return float_tile<V, W, 3, kVectors>(job, first, token, column, columns, streamed);
    case 4:
      if constexpr (V::kTileTokens > 3)
        float_tile<V, W, 4, kVectors>(job, first, token, column, columns, streamed);
      return;
    case 5:
      if constexpr (V::kTileTokens > 4)
        float_tile<V, W, 5, kVectors>(job, first, token, column, columns, streamed);
      return;
    case 6:
      if constexpr (V::kTileTokens > 5)
        float_tile<V, W, 6, kVectors>(job, first, token, column, columns, streamed);
      return;
    default:
      return;
  }
}

template <class V, class W, int kVectors>
void float_group(const FloatJob& job, int64_t first) {
  const int64_t m = job.token_end - job.token_begin;
  const int64_t k = job.weight->k;
  const bool streamed = m <= V::kTileTokens;
  const int64_t step = streamed ? k : cached_columns<W>();
  for (int64_t column = 0; column < k; column += step) {
    const int64_t columns = column + step < k ? step : k - column;
    for (int64_t token = job.token_begin; token < job.token_end; token += V::kTileTokens) {
      const int64_t rest = job.token_end - token;
      float_tokens<V, W, kVectors>(job, first, token, rest < V::kTileTokens ? rest : V::kTileTokens,
                                   column, columns, streamed);
    }
  }
}

// Groups of kWidth outputs of all weights together are shared out: use(job, first output, the
// strips' rows of outputs from there in the group) for each of this worker's.
template <int64_t kWidth, class Use>
void share_float_jobs(const OpContext& context, const MatmulArgs& a, const void* x, Use use) {
  int64_t total = 0;
  for (int64_t w = 0; w < a.num_weights; ++w) total += (a.weights[w]->n + kWidth - 1) / kWidth;
  const Range range = worker_range(context.worker, total, 1);
  int64_t before = 0;
  for (int64_t w = 0; w < a.num_weights; ++w) {
    const Weight& weight = *a.weights[w];
    const int64_t groups = (weight.n + kWidth - 1) / kWidth;
    const int64_t padded = (weight.n + kStripRows - 1) / kStripRows * kStripRows;
    const int64_t begin = range.begin > before ? range.begin - before : 0;
    const int64_t end = range.end - before < groups ? range.end - before : groups;
    before += groups;
    for (int64_t e = 0; e < weight.num_experts; ++e) {
      const bool routed = a.expert_begin != nullptr;
      const FloatJob job = {&weight,
                            weight.packed + e * weight.packed_bytes,
                            &a,
                            x,
                            a.y[w],
                            routed ? a.expert_begin[e] : 0,
                            routed ? a.expert_begin[e + 1] : a.m};
      if (job.token_begin >= job.token_end) continue;
      for (int64_t group = begin; group < end; ++group) {
        const int64_t first = group * kWidth;
        use(job, first, padded - first < kWidth ? padded - first : kWidth);
      }
    }
  }
}

// The inputs are ready: `x` is [x_rows, k] of W::X. Weights that are used once are read half a
// group at a time: fewer streams side by side are read faster, and two strips still hide the
// latency of their sums.
template <class V, class W>
void float_run(const OpContext& context, const MatmulArgs& a, const void* x) {
  constexpr int64_t kWidth = V::kVectors * V::kWidth;
  share_float_jobs<kWidth>(context, a, x, [](const FloatJob& job, int64_t first, int64_t rows) {
    if (rows < kWidth) {
      for (int64_t done = 0; done < rows; done += kStripRows)
        float_group<V, W, kStripRows / V::kWidth>(job, first + done);
    } else if (job.token_end - job.token_begin > V::kTileTokens) {
      float_group<V, W, V::kVectors>(job, first);
    } else {
      float_group<V, W, V::kVectors / 2>(job, first);
      float_group<V, W, V::kVectors / 2>(job, first + kWidth / 2);
    }
  });
}

inline int64_t no_scratch(int64_t, int64_t) { return 0; }

}  // namespace
}  // namespace quench
