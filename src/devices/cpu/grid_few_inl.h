// Matmul of grid strips for few tokens, in the arithmetic of grid_matmul_inl.h: weights go from
// memory to registers to the dot product, once.
#pragma once

#include "devices/cpu/grid_matmul_inl.h"

namespace quench {
namespace {

// The sums of a unit. Of their own for quads whose numbers differ modulo kChains, as many as hide
// the latency of the dot product; integers may be added in any order. All loops over them are
// unrolled: they must not touch memory.
template <class V, int kTokens, int kVectors>
struct FewSums {
  static constexpr int kChains = kTokens * kVectors >= 4 ? 1 : 4 / (kTokens * kVectors);

  typename V::I sums[kChains][kVectors][kTokens];

  inline __attribute__((always_inline)) void clear() {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) sums[c][v][t] = V::zero_int();
      }
    }
  }

  template <int kQ, class C>
  inline __attribute__((always_inline)) void add_quad(const C& codes,
                                                      const std::byte* const (&blocks)[kVectors],
                                                      const int8_t* const (&x)[kTokens]) {
    typename V::I inputs[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) inputs[t] = V::spread32(x[t] + kQuad * kQ);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const typename V::I weights = codes.template quad<kQ>(blocks[v]);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        typename V::I& sum = sums[kQ % kChains][v][t];
        sum = dot_quad<V, C::kWide>(sum, weights, inputs[t]);
      }
    }
  }

  // The four quads from kFirst on.
  template <int kFirst, class C>
  inline __attribute__((always_inline)) void add_half_block(
      const C& codes, const std::byte* const (&blocks)[kVectors],
      const int8_t* const (&x)[kTokens]) {
    add_quad<kFirst>(codes, blocks, x);
    add_quad<kFirst + 1>(codes, blocks, x);
    add_quad<kFirst + 2>(codes, blocks, x);
    add_quad<kFirst + 3>(codes, blocks, x);
  }
};

// b and acc of the arithmetic above, in memory, and what a unit adds to them.
template <class V, class C, int kTokens, int kVectors>
struct FewResults {
  const Rows<V>& rows;
  const Token (&tokens)[kTokens];
  float factor;  // of the activation scales
  typename V::F (&acc)[kVectors][kTokens];
  typename V::F block[kVectors][kTokens];

  inline __attribute__((always_inline)) void add_unit(
      const FewSums<V, kTokens, kVectors>& unit_sums, int64_t number) {
    const GridLayout& layout = *rows.layout;
    const Unit unit = unit_at(layout, number);
    const bool has_min = layout.has_min();
    const int offset = sum_offset<V, C::kWide>(has_min, C::kZero);
    typename V::F scale[kVectors];
    typename V::F min[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      scale[v] = rows.scale(v, number);
      min[v] = has_min ? rows.min(v, number, scale[v]) : V::zero();
    }
    const int64_t sum_at = sum_index(number, layout.x_units);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const int32_t x_sum = tokens[t].sums[sum_at];
      const typename V::I start = V::set32(offset * x_sum);
      const float x_scale = tokens[t].scales[unit.first / kXBlock] * factor;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        typename V::I sum = start;
#pragma GCC unroll 4
        for (int c = 0; c < unit_sums.kChains; ++c) sum = V::add32(sum, unit_sums.sums[c][v][t]);
        typename V::F b = unit.begins ? V::zero() : block[v][t];
        if (has_min) b = V::fnma(V::set1(static_cast<float>(x_sum)), min[v], b);
        b = V::fma(V::to_float(sum), scale[v], b);
        if (unit.ends) {
          acc[v][t] = V::fma(b, V::set1(x_scale), acc[v][t]);
        } else {
          block[v][t] = b;
        }
      }
    }
  }
};

// How far ahead of the codes in use the next are asked for: far ahead into the second-level cache,
// a little ahead from there into the first. The registers are behind both: a line of 4-bit codes
// takes 50 instructions, so what a core has in flight by itself is 2 KB. Of a plain read by two
// threads on a Zen 4, a chain of layers in int4_g128, int8 and q4_k reaches 96, 85 and 80 % so; 77,
// 56 and 64 % when all is asked for 8 KB ahead into the first-level cache, whose few requests in
// flight it takes; 76, 77 and 48 % when nothing is.
constexpr int64_t kFarBytes = 12288;
constexpr int64_t kNearBytes = 2048;

// acc[v][t] += ... for all units of kVectors vectors of outputs, which are one strip or several.
// Memory wants one sequential stream (on Zen 5 two threads read 43 GB/s that way, as a plain read
// does, and 31 with four strips side by side). So several strips ask for those after them in the
// order of memory, into the second-level cache, and are read from there: 4 tokens go from 14 GB/s
// to 27 per core, whatever the distance of prefetches that run ahead in each strip.
template <class V, class C, int kTokens, int kVectors>
void few_tokens(const C& codes, const Rows<V>& rows, const Token (&tokens)[kTokens],
                typename V::F (&acc)[kVectors][kTokens]) {
  const GridLayout& layout = *rows.layout;
  const std::byte* blocks[kVectors];
  const int8_t* x[kTokens];
  for (int v = 0; v < kVectors; ++v) blocks[v] = rows.codes(v);
  for (int t = 0; t < kTokens; ++t) x[t] = tokens[t].codes;
  FewSums<V, kTokens, kVectors> sums;
  FewResults<V, C, kTokens, kVectors> results = {rows, tokens, codes.scale_factor(), acc, {}};
  constexpr int64_t kStrips = kVectors / Rows<V>::kPerStrip;
  const std::byte* ahead =
      kStrips == 1 ? blocks[0] + kFarBytes : rows.strip + kStrips * layout.strip_bytes;
  const auto ask_ahead = [&ahead] {
    for (int64_t line = 0; line < kStrips * C::kLines; ++line, ahead += kLineBytes) {
      V::prefetch_far(ahead);
      if constexpr (kStrips == 1) V::prefetch(ahead - (kFarBytes - kNearBytes));
    }
  };
  const auto advance = [&blocks, &x] {
    for (int v = 0; v < kVectors; ++v) blocks[v] += C::kLines * kLineBytes;
    for (int t = 0; t < kTokens; ++t) x[t] += C::kBlocks * kBlock;
  };
  const bool halves = C::kBlocks == 1 && layout.unit < kBlock;  // a block is two units
  int64_t left = layout.columns / kBlock;
  for (int64_t unit = 0; unit < layout.units; ++unit) {
    sums.clear();
    if (!halves) {
      const int64_t unit_blocks = layout.unit / kBlock < left ? layout.unit / kBlock : left;
      left -= unit_blocks;
      for (int64_t b = 0; b < unit_blocks; b += C::kBlocks) {
        ask_ahead();
        sums.template add_half_block<0>(codes, blocks, x);
        sums.template add_half_block<4>(codes, blocks, x);
        if constexpr (C::kBlocks == 2) {
          sums.template add_half_block<8>(codes, blocks, x);
          sums.template add_half_block<12>(codes, blocks, x);
        }
        advance();
      }
    } else if (unit % 2 == 0) {
      ask_ahead();
      sums.template add_half_block<0>(codes, blocks, x);
    } else {
      sums.template add_half_block<4>(codes, blocks, x);
      advance();
    }
    results.add_unit(sums, unit);
  }
}

}  // namespace
}  // namespace quench
