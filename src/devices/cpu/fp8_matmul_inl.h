// Matmul of e4m3 strips (fp8_strip_inl.h), as templates over a vector class V and an arithmetic D:
// what a step of kStepColumns columns takes of weights and inputs, and how it multiplies them.
// Codes are unpacked kUnpackColumns columns at a time.
//
// Arithmetic, the same for every m, thread count and call: per 128 columns s = step(s, weights,
// input) in ascending order, from 0; then acc = fma(s, scale, acc), from 0; y = acc + bias. Codes
// become floats without rounding.
#pragma once

#include "devices/cpu/float_matmul_inl.h"
#include "devices/cpu/fp8_strip_inl.h"

namespace quench {
namespace {

// From so many tokens on, weights are unpacked once and used from the cache.
constexpr int64_t kFp8FewTokens = 4;
// A line is asked for into the second-level cache, and nearer from there into the first: what waits
// in the first for memory holds one of its few places for misses.
constexpr int64_t kFp8FarBytes = 4096;
constexpr int64_t kFp8NearBytes = 1024;

template <class D>
constexpr int64_t kFp8Steps = D::kUnpackColumns / D::kStepColumns;

// kVectors vectors of consecutive outputs of one matrix.
template <class V>
struct Fp8Rows {
  static constexpr int64_t kPerStrip = kStripRows / V::kWidth;

  const std::byte* strip;  // of the first output
  Fp8Layout layout;

  const std::byte* codes(int64_t v) const {
    return strip_of(v) + layout.codes_begin + v % kPerStrip * V::kWidth;
  }
  typename V::F scale(int64_t v, int64_t unit) const {
    const std::byte* at = strip_of(v) + unit * layout.scale_step;
    return V::load(reinterpret_cast<const float*>(at) + v % kPerStrip * V::kWidth);
  }

 private:
  const std::byte* strip_of(int64_t v) const { return strip + v / kPerStrip * layout.strip_bytes; }
};

// ---- few tokens: weights go from memory to registers to the product, once ----

template <class V, class D, int kTokens, int kVectors>
void fp8_few(const FloatJob& job, const Fp8Rows<V>& rows, int64_t first, int64_t count,
             int64_t token) {
  constexpr int64_t kLineColumns = kLineBytes / kStripRows;
  const int64_t k = job.weight->k;
  const std::byte* w[kVectors];
  const typename D::X* x[kTokens];
  typename V::F acc[kTokens][kVectors];
  for (int v = 0; v < kVectors; ++v) w[v] = rows.codes(v);
  for (int t = 0; t < kTokens; ++t) {
    x[t] = float_input<typename D::X>(job, token + t);
    for (int v = 0; v < kVectors; ++v) acc[t][v] = V::zero();
  }
  for (int64_t unit = 0; unit < rows.layout.units; ++unit) {
    const int64_t columns = k - unit * kXBlock < kXBlock ? k - unit * kXBlock : kXBlock;
    typename V::F sums[kTokens][kVectors];
    for (int t = 0; t < kTokens; ++t)
      for (int v = 0; v < kVectors; ++v) sums[t][v] = V::zero();
    for (int64_t c = 0; c < columns; c += kLineColumns) {
      for (int v = 0; v < kVectors; v += Fp8Rows<V>::kPerStrip) {
        V::prefetch_far(w[v] + kFp8FarBytes);
        V::prefetch(w[v] + kFp8NearBytes);
      }
      for (int64_t part = 0; part < kLineColumns; part += D::kUnpackColumns) {
        typename D::W weights[kVectors][kFp8Steps<D>];
        for (int v = 0; v < kVectors; ++v) {
          D::unpack(w[v], weights[v]);
          w[v] += D::kUnpackColumns * kStripRows;
        }
        for (int64_t i = 0; i < kFp8Steps<D>; ++i) {
          for (int t = 0; t < kTokens; ++t) {
            for (int v = 0; v < kVectors; ++v)
              sums[t][v] = D::step(sums[t][v], weights[v][i], x[t]);
            x[t] += D::kStepColumns;
          }
        }
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      const typename V::F scale = rows.scale(v, unit);
      for (int t = 0; t < kTokens; ++t) acc[t][v] = V::fma(sums[t][v], scale, acc[t][v]);
    }
  }
  alignas(64) float values[kTokens][kVectors * V::kWidth];
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) V::store(values[t] + v * V::kWidth, acc[t][v]);
  for (int t = 0; t < kTokens; ++t) put_float_outputs(job, token + t, first, count, values[t]);
}

// ---- many tokens: 128 columns of weights are unpacked in the first-level cache, used by all ----

// acc (in memory, [kTokens][kVectors * kWidth]) += one unit; `weights` are D::W, step by step.
template <class V, class D, int kTokens, int kVectors>
void fp8_tile(const std::byte* weights, const float* scales, const typename D::X* const* inputs,
              int64_t columns, float* acc) {
  constexpr int64_t kLanes = kVectors * V::kWidth;
  const typename D::X* x[kTokens];
  typename V::F sums[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t) {
    x[t] = inputs[t];
    for (int v = 0; v < kVectors; ++v) sums[t][v] = V::zero();
  }
  for (int64_t c = 0; c < columns; c += D::kStepColumns) {
    typename D::W w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = D::load(weights + v * sizeof(typename D::W));
    weights += kVectors * sizeof(typename D::W);
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < kVectors; ++v) sums[t][v] = D::step(sums[t][v], w[v], x[t]);
      x[t] += D::kStepColumns;
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      float* const to = acc + t * kLanes + v * V::kWidth;
      V::store(to, V::fma(sums[t][v], V::load(scales + v * V::kWidth), V::load(to)));
    }
  }
}

template <class V, class D, int kVectors, int kTokens = V::kTileTokens>
void fp8_tiles(int64_t num_tokens, const std::byte* weights, const float* scales,
               const typename D::X* const* inputs, int64_t columns, float* acc) {
  for (; num_tokens >= kTokens; num_tokens -= kTokens) {
    fp8_tile<V, D, kTokens, kVectors>(weights, scales, inputs, columns, acc);
    inputs += kTokens;
    acc += kTokens * kVectors * V::kWidth;
  }
  if constexpr (kTokens > 1) {
    fp8_tiles<V, D, kVectors, kTokens - 1>(num_tokens, weights, scales, inputs, columns, acc);
  }
}

template <class V, class D, int kVectors>
void fp8_many(const FloatJob& job, const Fp8Rows<V>& rows, int64_t first, int64_t count,
              int64_t token_begin, int64_t token_end) {
  constexpr int64_t kLanes = kVectors * V::kWidth;
  constexpr int64_t kBytes = sizeof(typename D::W);
  const int64_t k = job.weight->k;
  const int64_t num_tokens = token_end - token_begin;
  const typename D::X* inputs[kFloatTokenBlock];
  alignas(64) float acc[kFloatTokenBlock * kLanes];
  alignas(64) std::byte weights[kXBlock / D::kStepColumns * kVectors * kBytes];
  alignas(64) float scales[kLanes];
  for (int64_t t = 0; t < num_tokens; ++t)
    inputs[t] = float_input<typename D::X>(job, token_begin + t);
  for (int64_t i = 0; i < num_tokens * kLanes; i += V::kWidth) V::store(acc + i, V::zero());
  for (int64_t unit = 0; unit < rows.layout.units; ++unit) {
    const int64_t column = unit * kXBlock;
    const int64_t columns = k - column < kXBlock ? k - column : kXBlock;
    std::byte* to = weights;
    for (int64_t c = 0; c < columns; c += D::kUnpackColumns) {
      for (int v = 0; v < kVectors; ++v) {
        const std::byte* at = rows.codes(v) + (column + c) * kStripRows;
        V::prefetch_far(at + kXBlock * kStripRows);
        typename D::W unpacked[kFp8Steps<D>];
        D::unpack(at, unpacked);
        for (int64_t i = 0; i < kFp8Steps<D>; ++i)
          D::store(to + (i * kVectors + v) * kBytes, unpacked[i]);
      }
      to += kFp8Steps<D> * kVectors * kBytes;
    }
    for (int v = 0; v < kVectors; ++v) V::store(scales + v * V::kWidth, rows.scale(v, unit));
    fp8_tiles<V, D, kVectors>(num_tokens, weights, scales, inputs, columns, acc);
    for (int64_t t = 0; t < num_tokens; ++t) inputs[t] += columns;
  }
  for (int64_t t = 0; t < num_tokens; ++t)
    put_float_outputs(job, token_begin + t, first, count, acc + t * kLanes);
}

// kVectors vectors of outputs from `first` on, for all tokens.
template <class V, class D, int kVectors>
void fp8_group(const FloatJob& job, const Fp8Layout& layout, int64_t first) {
  const Fp8Rows<V> rows = {job.packed + first / kStripRows * layout.strip_bytes, layout};
  const int64_t rest = job.weight->n - first;
  const int64_t count = rest < kVectors * V::kWidth ? rest : kVectors * V::kWidth;
  int64_t token = job.token_begin;
  while (job.token_end - token > kFp8FewTokens) {
    const int64_t end =
        token + kFloatTokenBlock < job.token_end ? token + kFloatTokenBlock : job.token_end;
    fp8_many<V, D, kVectors>(job, rows, first, count, token, end);
    token = end;
  }
  switch (job.token_end - token) {
    case 1:
      return fp8_few<V, D, 1, kVectors>(job, rows, first, count, token);
    case 2:
      return fp8_few<V, D, 2, kVectors>(job, rows, first, count, token);
    case 3:
      return fp8_few<V, D, 3, kVectors>(job, rows, first, count, token);
    case 4:
      return fp8_few<V, D, 4, kVectors>(job, rows, first, count, token);
    default:
      return;
  }
}

// The inputs are ready: `x` is [x_rows, k] of D::X.
template <class V, class D>
void fp8_run(const OpContext& context, const MatmulArgs& a, const void* x) {
  constexpr int64_t kWidth = V::kVectors * V::kWidth;
  share_float_jobs<kWidth>(context, a, x, [](const FloatJob& job, int64_t first, int64_t rows) {
    const Fp8Layout layout = fp8_layout(*job.weight->format, job.weight->k);
    if (rows == kWidth) return fp8_group<V, D, V::kVectors>(job, layout, first);
    for (int64_t done = 0; done < rows; done += kStripRows)
      fp8_group<V, D, kStripRows / V::kWidth>(job, layout, first + done);
  });
}

}  // namespace
}  // namespace quench
