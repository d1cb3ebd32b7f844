// Matmul of float weights, as templates over a vector class, a weight class and the place that
// strips (strip_inl.h) are had from: packed memory, or the rows of a file (float_rows_inl.h).
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

struct FloatJob {
  const Weight* weight;
  const std::byte* packed;
  const MatmulArgs* args;
  const void* x;  // [x_rows, k] elements of W::X
  float* y;       // [m, n]
  int64_t token_begin;
  int64_t token_end;
};

template <class X>
const X* float_input(const FloatJob& job, int64_t token) {
  const int64_t from = job.args->rows != nullptr ? job.args->rows[token] : token;
  return static_cast<const X*>(job.x) + from * job.weight->k;
}

// `values` of the outputs first .. first + count of one token, bias added, to y. Outputs past n
// exist in the strip only; y has no room for them.
inline void put_float_outputs(const FloatJob& job, int64_t token, int64_t first, int64_t count,
                              const float* values) {
  float* y = job.y + token * job.weight->n + first;
  const float* bias = job.weight->bias;
  for (int64_t i = 0; i < count; ++i)
    y[i] = bias == nullptr ? values[i] : values[i] + bias[first + i];
}

// Weights that were packed. A place says how many outputs are read at once where weights are used
// once, adds all columns of those, and hands out some columns of many for reading them again.
template <class V, class W>
struct PackedStrips {
  // Fewer streams side by side are read faster, and two strips still hide the latency of their
  // sums. Nothing is asked for ahead: few instructions stand between two lines, so the processor
  // does that itself, and better (of a plain read by two threads of a Zen 4 bf16 reaches 95 %; 84 %
  // with requests 2 KB ahead, and from a cache half of its speed).
  static constexpr int kFewVectors = V::kVectors / 2;

  // The columns from `column` on of kVectors vectors of outputs.
  template <int kVectors>
  static void columns(const FloatJob& job, int64_t first, int64_t column,
                      const std::byte* (&w)[kVectors]) {
    constexpr int64_t kPerStrip = kStripRows / V::kWidth;
    const int64_t strip_bytes = kStripRows * W::kBytes * job.weight->k;
    for (int v = 0; v < kVectors; ++v) {
      w[v] = job.packed + (first / kStripRows + v / kPerStrip) * strip_bytes +
             column * kStripRows * W::kBytes +
             v % kPerStrip * V::kWidth * W::kBytes * W::kStepColumns;
    }
  }

  template <int kTokens, int kVectors>
  static void add_all(const FloatJob& job, int64_t first, const typename W::X* (&x)[kTokens],
                      typename V::F (&acc)[kTokens][kVectors]) {
    const std::byte* w[kVectors];
    columns(job, first, 0, w);
    float_columns<V, W, kTokens, kVectors>(w, x, job.weight->k, acc);
  }

  // cached_columns() of them; what comes next arrives while the tokens use these.
  template <int kVectors>
  void cache(const FloatJob& job, int64_t first, int64_t column,
             const std::byte* (&strips)[kVectors]) {
    constexpr int64_t kBytes = cached_columns<W>() * W::kBytes * kStripRows;
    columns(job, first, column, strips);
    for (int v = 0; v < kVectors; v += kStripRows / V::kWidth)
      for (int64_t line = 0; line < kBytes; line += kLineBytes)
        V::prefetch_far(strips[v] + kBytes + line);
  }
};

// ---- few tokens: weights are read once ----

template <class V, class W, class Place, int kTokens, int kVectors>
void float_few(const FloatJob& job, int64_t first, int64_t count, int64_t token) {
  const typename W::X* x[kTokens];
  typename V::F acc[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t) x[t] = float_input<typename W::X>(job, token + t);
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) acc[t][v] = V::zero();
  Place::add_all(job, first, x, acc);
  alignas(64) float values[kTokens][kVectors * V::kWidth];
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) V::store(values[t] + v * V::kWidth, acc[t][v]);
  for (int t = 0; t < kTokens; ++t) put_float_outputs(job, token + t, first, count, values[t]);
}

template <class V, class W, class Place, int kVectors, int kTokens = V::kTileTokens>
void float_few_tokens(const FloatJob& job, int64_t first, int64_t count) {
  if constexpr (kTokens > 0) {
    if (job.token_end - job.token_begin == kTokens) {
      float_few<V, W, Place, kTokens, kVectors>(job, first, count, job.token_begin);
    } else {
      float_few_tokens<V, W, Place, kVectors, kTokens - 1>(job, first, count);
    }
  }
}

// ---- many tokens: some columns of weights at a time stay in the first-level cache ----

// Tokens per pass over the weights: their sums stay in the second-level cache.
constexpr int64_t kFloatTokenBlock = 256;

// acc (in memory, [kTokens][kVectors * kWidth]) += `columns` columns from `column` on.
template <class V, class W, int kTokens, int kVectors>
void float_tile(const std::byte* const (&strips)[kVectors], const typename W::X* const* inputs,
                int64_t column, int64_t columns, float* sums) {
  const std::byte* w[kVectors];
  const typename W::X* x[kTokens];
  typename V::F acc[kTokens][kVectors];
  for (int v = 0; v < kVectors; ++v) w[v] = strips[v];
  for (int t = 0; t < kTokens; ++t) x[t] = inputs[t] + column;
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) acc[t][v] = V::load(sums + (t * kVectors + v) * V::kWidth);
  float_columns<V, W, kTokens, kVectors>(w, x, columns, acc);
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) V::store(sums + (t * kVectors + v) * V::kWidth, acc[t][v]);
}

template <class V, class W, int kVectors, int kTokens = V::kTileTokens>
void float_tiles(int64_t num_tokens, const std::byte* const (&strips)[kVectors],
                 const typename W::X* const* inputs, int64_t column, int64_t columns, float* sums) {
  for (; num_tokens >= kTokens; num_tokens -= kTokens) {
    float_tile<V, W, kTokens, kVectors>(strips, inputs, column, columns, sums);
    inputs += kTokens;
    sums += kTokens * kVectors * V::kWidth;
  }
  if constexpr (kTokens > 1)
    float_tiles<V, W, kVectors, kTokens - 1>(num_tokens, strips, inputs, column, columns, sums);
}

template <class V, class W, class Place, int kVectors>
void float_many(const FloatJob& job, int64_t first, int64_t count, int64_t token_begin,
                int64_t token_end) {
  constexpr int64_t kLanes = kVectors * V::kWidth;
  constexpr int64_t kStep = cached_columns<W>();
  const int64_t k = job.weight->k;
  const int64_t num_tokens = token_end - token_begin;
  const typename W::X* inputs[kFloatTokenBlock];
  alignas(64) float sums[kFloatTokenBlock * kLanes];
  Place place;
  for (int64_t t = 0; t < num_tokens; ++t)
    inputs[t] = float_input<typename W::X>(job, token_begin + t);
  for (int64_t i = 0; i < num_tokens * kLanes; i += V::kWidth) V::store(sums + i, V::zero());
  for (int64_t column = 0; column < k; column += kStep) {
    const std::byte* strips[kVectors];
    place.cache(job, first, column, strips);
    float_tiles<V, W, kVectors>(num_tokens, strips, inputs, column,
                                column + kStep < k ? kStep : k - column, sums);
  }
  for (int64_t t = 0; t < num_tokens; ++t)
    put_float_outputs(job, token_begin + t, first, count, sums + t * kLanes);
}

// kVectors vectors of outputs from `first` on.
template <class V, class W, class Place, int kVectors>
void float_group(const FloatJob& job, int64_t first, bool few) {
  const int64_t rest = job.weight->n - first;
  const int64_t count = rest < kVectors * V::kWidth ? rest : kVectors * V::kWidth;
  if constexpr (kVectors <= Place::kFewVectors) {
    if (few) return float_few_tokens<V, W, Place, kVectors>(job, first, count);
  }
  for (int64_t token = job.token_begin; token < job.token_end; token += kFloatTokenBlock) {
    const int64_t end =
        token + kFloatTokenBlock < job.token_end ? token + kFloatTokenBlock : job.token_end;
    float_many<V, W, Place, kVectors>(job, first, count, token, end);
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

// The inputs are ready: `x` is [x_rows, k] of W::X.
template <class V, class W, class Place = PackedStrips<V, W>>
void float_run(const OpContext& context, const MatmulArgs& a, const void* x) {
  constexpr int64_t kWidth = V::kVectors * V::kWidth;
  constexpr int64_t kFewWidth = Place::kFewVectors * V::kWidth;
  share_float_jobs<kWidth>(context, a, x, [](const FloatJob& job, int64_t first, int64_t rows) {
    const bool few = job.token_end - job.token_begin <= V::kTileTokens;
    if (rows < kWidth) {
      for (int64_t done = 0; done < rows; done += kStripRows)
        float_group<V, W, Place, kStripRows / V::kWidth>(job, first + done, few);
    } else if (few) {
      for (int64_t done = 0; done < kWidth; done += kFewWidth)
        float_group<V, W, Place, Place::kFewVectors>(job, first + done, few);
    } else {
      float_group<V, W, Place, V::kVectors>(job, first, few);
    }
  });
}

inline int64_t no_scratch(int64_t, int64_t) { return 0; }

}  // namespace
}  // namespace quench
