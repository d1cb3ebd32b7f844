// The loops around grid_matmul_inl.h: who does which rows for which tokens, and the kernel's table
// row. An ISA folder instantiates grid_run<Vec>.
#pragma once

#include "devices/cpu/grid_few_inl.h"
#include "devices/cpu/grid_matmul_inl.h"
#include "devices/cpu/trellis_inl.h"

namespace quench {
namespace {

// Tokens per pass over the weights: their accumulators stay in the second-level cache.
constexpr int64_t kTokenBlock = 256;

// Consecutive output rows of one matrix (or one expert) for the tokens that want them.
struct RowJob {
  const Weight* weight;
  const std::byte* packed;
  const MatmulArgs* args;
  QuantizedInput input;
  float* y;             // [m, n]
  int64_t token_begin;  // rows of y
  int64_t token_end;
};

inline Token token_at(const RowJob& job, int64_t row) {
  const int64_t from = job.args->rows != nullptr ? job.args->rows[row] : row;
  const QuantizedInput& input = job.input;
  return {input.codes + from * input.k, input.scales + from * input.x_blocks,
          input.sums + from * input.x_blocks * kSums,
          input.spikes + from * input.x_blocks * kMaxSpikes, input.num_spikes[from]};
}

// `values` of the outputs first .. first + count of one token, bias added, to y.
template <class V>
void put_outputs(const RowJob& job, int64_t token, int64_t first, int64_t count,
                 const float* values) {
  float* y = job.y + token * job.weight->n + first;
  const float* bias = job.weight->bias == nullptr ? nullptr : job.weight->bias + first;
  int64_t i = 0;
  for (; i + V::kWidth <= count; i += V::kWidth) {
    const typename V::F sum = V::load(values + i);
    V::store(y + i, bias == nullptr ? sum : V::add(sum, V::load(bias + i)));
  }
  for (; i < count; ++i) y[i] = bias == nullptr ? values[i] : values[i] + bias[i];
}

// Inputs that are no integers, added to the sums of one token.
template <class V, class C, int kVectors>
void add_spikes(const C& codes, const Rows<V>& rows, const Token& token, float* acc) {
  for (int64_t i = 0; i < token.num_spikes; ++i) {
    const typename V::F value = V::set1(token.spikes[i].value);
    for (int v = 0; v < kVectors; ++v) {
      float* const to = acc + v * V::kWidth;
      V::store(to, V::fma(value, column_weights<V, C>(codes, rows, v, token.spikes[i].column),
                          V::load(to)));
    }
  }
}

// kTokens tokens from `token` on for kStrips strips, `count` outputs from `first` on.
template <class V, class C, int kTokens, int kStrips>
void few_strips(const RowJob& job, const C& codes, const Rows<V>& rows, int64_t first,
                int64_t count, int64_t token) {
  constexpr int kVectors = kStrips * Rows<V>::kPerStrip;
  Token tokens[kTokens];
  typename V::F acc[kVectors][kTokens];
  for (int t = 0; t < kTokens; ++t) {
    tokens[t] = token_at(job, token + t);
    for (int v = 0; v < kVectors; ++v) acc[v][t] = V::zero();
  }
  few_tokens<V, C, kTokens, kVectors>(codes, rows, tokens, acc);
  for (int t = 0; t < kTokens; ++t) {
    alignas(64) float values[kStrips * kStripRows];
    for (int v = 0; v < kVectors; ++v) V::store(values + v * V::kWidth, acc[v][t]);
    add_spikes<V, C, kVectors>(codes, rows, tokens[t], values);
    put_outputs<V>(job, token + t, first, count, values);
  }
}

// The same for num_tokens, which are kLeast to kMost.
template <class V, class C, int kLeast, int kMost, int kStrips>
void few_strips_of(int64_t num_tokens, const RowJob& job, const C& codes, const Rows<V>& rows,
                   int64_t first, int64_t count, int64_t token) {
  if constexpr (kLeast < kMost) {
    if (num_tokens < kMost) {
      few_strips_of<V, C, kLeast, kMost - 1, kStrips>(num_tokens, job, codes, rows, first, count,
                                                      token);
      return;
    }
  }
  few_strips<V, C, kMost, kStrips>(job, codes, rows, first, count, token);
}

// Tokens token .. job.token_end for `count` outputs from `first` on. A strip that comes from memory
// for the first tokens is in a cache for the next.
template <class V, class C>
void few_group(const RowJob& job, const C& codes, const GridLayout& layout, int64_t first,
               int64_t count, int64_t token) {
  constexpr int kOne = V::kOneStripTokens;
  constexpr int kTwo = V::kTwoStripTokens;
  const auto rows_at = [&](int64_t row) {
    return Rows<V>{job.packed + row / kStripRows * layout.strip_bytes, &layout};
  };
  const int64_t end = first + count;
  for (int64_t row = first, width; row < end; row += width) {
    int64_t t = token;
    width = kStripRows;
    if constexpr (kTwo > 0) {
      if (end - row > kStripRows) {
        width = 2 * kStripRows;
        const int64_t some = end - row < width ? end - row : width;
        for (; job.token_end - t > kOne; t += kTwo)
          few_strips_of<V, C, kOne + 1, kTwo, 2>(job.token_end - t, job, codes, rows_at(row), row,
                                                 some, t);
      }
    }
    for (; t < job.token_end; t += kOne) {
      for (int64_t r = row; r < row + width; r += kStripRows) {
        const int64_t some = end - r < kStripRows ? end - r : kStripRows;
        few_strips_of<V, C, 1, kOne, 1>(job.token_end - t, job, codes, rows_at(r), r, some, t);
      }
    }
  }
}

// kTokens tokens at a time, then what is left.
template <class V, bool kWide, int kVectors, int kQuads, int kTokens>
void unpacked_tiles(int64_t num_tokens, const UnpackedKind& kind, const Unpacked<V>& weights,
                    const UnpackedColumns& columns, const Token* tokens, float* acc) {
  for (; num_tokens >= kTokens; num_tokens -= kTokens) {
    unpacked_tile<V, kWide, kTokens, kVectors, kQuads>(kind, weights, columns, tokens, acc);
    tokens += kTokens;
    acc += kTokens * kVectors * V::kWidth;
  }
  if constexpr (kTokens > 1) {
    unpacked_tiles<V, kWide, kVectors, kQuads, kTokens - 1>(num_tokens, kind, weights, columns,
                                                            tokens, acc);
  }
}

// All tokens of a block against the unpacked units [begin, end). A level with a matrix unit
// specializes it.
template <class V, bool kWide, int kVectors>
struct UnpackedProduct {
  static void run(int64_t num_tokens, const UnpackedKind& kind, const GridLayout& layout,
                  const Unpacked<V>& weights, int64_t begin, int64_t end, const Token* tokens,
                  float* acc) {
    auto run_whole = unpacked_tiles<V, kWide, kVectors, 32, V::kGridTileTokens>;
    if (layout.unit == 64) run_whole = unpacked_tiles<V, kWide, kVectors, 16, V::kGridTileTokens>;
    if (layout.unit == 32) run_whole = unpacked_tiles<V, kWide, kVectors, 8, V::kGridTileTokens>;
    if (layout.unit == 16) run_whole = unpacked_tiles<V, kWide, kVectors, 4, V::kGridTileTokens>;
    const int64_t first = begin * layout.unit;
    const int64_t last = end * layout.unit;
    const int64_t rest = last > layout.columns ? layout.columns % layout.unit : 0;
    const int64_t whole = rest > 0 ? layout.columns - rest : last;
    run_whole(num_tokens, kind, weights, {first, first, whole}, tokens, acc);
    if (rest == 0) return;
    unpacked_tiles<V, kWide, kVectors, 0, 1>(num_tokens, kind, weights,
                                             {first, whole, layout.columns}, tokens, acc);
  }
};

template <class V, class C, int kVectors>
void many_group(const RowJob& job, const C& codes, const Rows<V>& rows, int64_t first,
                int64_t count, int64_t token_begin, int64_t token_end) {
  constexpr int64_t kWidth = kVectors * V::kWidth;
  const GridLayout& layout = *rows.layout;
  const int64_t step = kUnpackColumns / layout.unit;
  const int64_t num_tokens = token_end - token_begin;
  const UnpackedKind kind = {layout.has_min(), C::kZero, codes.scale_factor()};
  Token tokens[kTokenBlock];
  alignas(64) float acc[kTokenBlock * kWidth];
  alignas(64) Unpacked<V> weights;
  for (int64_t t = 0; t < num_tokens; ++t) tokens[t] = token_at(job, token_begin + t);
  for (int64_t i = 0; i < num_tokens * kWidth; i += V::kWidth) V::store(acc + i, V::zero());
  for (int64_t begin = 0; begin < layout.units; begin += step) {
    const int64_t end = begin + step < layout.units ? begin + step : layout.units;
    unpack_units<V, C, kVectors>(codes, rows, begin, end, weights);
    UnpackedProduct<V, C::kWide, kVectors>::run(num_tokens, kind, layout, weights, begin, end,
                                                tokens, acc);
  }
  for (int64_t t = 0; t < num_tokens; ++t) {
    add_spikes<V, C, kVectors>(codes, rows, tokens[t], acc + t * kWidth);
    put_outputs<V>(job, token_begin + t, first, count, acc + t * kWidth);
  }
}

template <class V, class C, int kVectors>
void run_group(const RowJob& job, const C& codes, const GridLayout& layout, int64_t first) {
  const Rows<V> rows = {job.packed + first / kStripRows * layout.strip_bytes, &layout};
  const int64_t rest = job.weight->n - first;
  const int64_t count = rest < kVectors * V::kWidth ? rest : kVectors * V::kWidth;
  int64_t token = job.token_begin;
  while (job.token_end - token >= V::many_tokens(layout.unit)) {
    const int64_t end = token + kTokenBlock < job.token_end ? token + kTokenBlock : job.token_end;
    many_group<V, C, kVectors>(job, codes, rows, first, count, token, end);
    token = end;
  }
  few_group<V, C>(job, codes, layout, first, count, token);
}

// Groups of kVectors vectors; a rest of whole strips goes strip by strip.
template <class V, class C>
void run_codes(const RowJob& job, int64_t group_begin, int64_t group_end) {
  constexpr int64_t kWidth = V::kVectors * V::kWidth;
  constexpr int kOneStrip = kStripRows / V::kWidth;
  const C codes(*job.weight->format);
  const GridLayout layout = grid_layout(*job.weight->format, job.weight->k);
  for (int64_t group = group_begin; group < group_end; ++group) {
    int64_t first = group * kWidth;
    const int64_t padded = (job.weight->n + kStripRows - 1) / kStripRows * kStripRows;
    if (first + kWidth <= padded) {
      run_group<V, C, V::kVectors>(job, codes, layout, first);
    } else {
      for (; first < padded; first += kStripRows)
        run_group<V, C, kOneStrip>(job, codes, layout, first);
    }
  }
}

template <class V>
int64_t num_groups(const Weight& weight) {
  constexpr int64_t kWidth = V::kVectors * V::kWidth;
  return (weight.n + kWidth - 1) / kWidth;
}

template <class V>
void run_job(const RowJob& job, int64_t group_begin, int64_t group_end) {
  if (group_begin >= group_end || job.token_begin >= job.token_end) return;
  const Format& format = *job.weight->format;
  if (format.trellis != nullptr) {
    switch (format.trellis->pair_bits()) {
      case 4:
        return run_codes<V, TrellisCodes<V, 2, 2>>(job, group_begin, group_end);
      case 5:
        return run_codes<V, TrellisCodes<V, 2, 3>>(job, group_begin, group_end);
      default:
        return run_codes<V, TrellisCodes<V, 3, 3>>(job, group_begin, group_end);
    }
  }
  if (format.grid.levels != nullptr)
    return run_codes<V, TableCodes<V>>(job, group_begin, group_end);
  switch (format.bits) {
    case 2:
      return run_codes<V, PlaneCodes<V, 2, 0>>(job, group_begin, group_end);
    case 3:
      return run_codes<V, PlaneCodes<V, 2, 1>>(job, group_begin, group_end);
    case 4:
      return run_codes<V, PlaneCodes<V, 4, 0>>(job, group_begin, group_end);
    case 5:
      return run_codes<V, PlaneCodes<V, 4, 1>>(job, group_begin, group_end);
    case 6:
      return run_codes<V, PlaneCodes<V, 4, 2>>(job, group_begin, group_end);
    default:
      return run_codes<V, PlaneCodes<V, 8, 0>>(job, group_begin, group_end);
  }
}

// MatmulKernel::run. The row groups of all weights together are shared out, so that small matrices
// in a list do not leave a worker idle.
template <class V>
void grid_run(const OpContext& context, const MatmulArgs& a) {
  const QuantizedInput input = quantized_input(context.scratch, a.x_rows, a.weights[0]->k);
  const Range own_rows = worker_range(context.worker, a.x_rows, 1);
  quantize_rows<V>(a.x, own_rows.begin, own_rows.end, input);
  context.worker.wait();
  int64_t total = 0;
  for (int64_t w = 0; w < a.num_weights; ++w) total += num_groups<V>(*a.weights[w]);
  const Range range = worker_range(context.worker, total, 1);
  int64_t before = 0;
  for (int64_t w = 0; w < a.num_weights; ++w) {
    const Weight& weight = *a.weights[w];
    const int64_t groups = num_groups<V>(weight);
    const int64_t begin = range.begin > before ? range.begin - before : 0;
    const int64_t end = range.end - before < groups ? range.end - before : groups;
    before += groups;
    for (int64_t e = 0; e < weight.num_experts; ++e) {
      const bool routed = a.expert_begin != nullptr;
      run_job<V>({&weight, weight.packed + e * weight.packed_bytes, &a, input, a.y[w],
                  routed ? a.expert_begin[e] : 0, routed ? a.expert_begin[e + 1] : a.m},
                 begin, end);
    }
  }
}

}  // namespace
}  // namespace quench
