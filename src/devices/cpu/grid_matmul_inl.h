// Matmul of grid strips (strip_inl.h) with int8 activations, as templates over a vector class.
//
// Arithmetic, the same for every m, thread count and call: an input row is quantized per 128
// columns (scale = largest magnitude / 127, codes round to even). Per unit (the columns under one
// weight scale and one activation scale, at most 128) the integer sum d of (level - zero) * code is
// exact; then acc = fma(float(d), weight scale * activation scale, acc), units in ascending order,
// from 0; y = acc + bias. Sums in integers are exact, so every ISA level gives the same bits too.
#pragma once

#include "devices/cpu/codes_inl.h"

namespace quench {
namespace {

// Rows [begin, end) of x to codes, scales and block sums.
template <class V>
void quantize_rows(const float* x, int64_t begin, int64_t end, const QuantizedInput& input) {
  const int64_t k = input.k;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t b = 0; b < input.x_blocks; ++b) {
      const int64_t first = b * kXBlock;
      const int64_t last = first + kXBlock < k ? first + kXBlock : k;
      const float* from = x + row * k;
      typename V::F largest = V::zero();
      for (int64_t i = first; i < last; i += V::kWidth)
        largest = V::max(largest, V::abs(V::load(from + i)));
      const float amax = V::reduce_max(largest);
      // The smallest normal number keeps the quotient finite; such rows are zero for all purposes.
      const float scale = amax > 1e-30f ? amax / 127.0f : 0.0f;
      const float inverse = amax > 1e-30f ? 127.0f / amax : 0.0f;
      input.scales[row * input.x_blocks + b] = scale;
      for (int64_t block = first; block < last; block += kBlock) {
        typename V::I sum = V::zero_int();
        for (int64_t i = block; i < block + kBlock; i += V::kWidth) {
          const typename V::F scaled = V::mul(V::load(from + i), V::set1(inverse));
          sum = V::add32(sum, V::store_rounded(input.codes + row * k + i, scaled));
        }
        input.sums[row * (k / kBlock) + block / kBlock] = V::sum_lanes(sum);
      }
    }
  }
}

// kVectors vectors of consecutive outputs of one matrix, as the inner loops see it.
template <class V>
struct Rows {
  static constexpr int64_t kPerStrip = kStripRows / V::kWidth;

  const std::byte* strip;  // of the first output
  const GridLayout* layout;

  static int64_t vector_offset(int64_t v) { return v % kPerStrip * V::kWidth * 4; }
  const std::byte* codes(int64_t v) const {
    return strip + v / kPerStrip * layout->strip_bytes + layout->codes_begin + vector_offset(v);
  }
  typename V::F scale(int64_t v, int64_t unit) const {
    const std::byte* at = strip + v / kPerStrip * layout->strip_bytes + unit * layout->scale_step;
    const int64_t lane = v % kPerStrip * V::kWidth;
    if (layout->scale_type == ScaleType::kF16) return V::load_f16(at + lane * 2);
    if (layout->scale_type == ScaleType::kBF16) return V::load_bf16(at + lane * 2);
    return V::load(reinterpret_cast<const float*>(at) + lane);
  }
  typename V::I zeros(int64_t v, int64_t unit) const {
    return V::load_u8(strip + v / kPerStrip * layout->strip_bytes + layout->zeros_begin +
                      unit * kStripRows + v % kPerStrip * V::kWidth);
  }
};

// One token's input.
struct Token {
  const int8_t* codes;
  const float* scales;
  const int32_t* sums;
};

inline int32_t unit_sum(const Token& token, int64_t first_block, int64_t blocks) {
  int32_t sum = 0;
  for (int64_t b = 0; b < blocks; ++b) sum += token.sums[first_block + b];
  return sum;
}

template <class V, bool kWide>
typename V::I dot_quad(typename V::I sum, typename V::I weights, typename V::I x) {
  if constexpr (kWide) {
    return V::dot8(sum, weights, x);
  } else {
    return V::dot(sum, weights, x);
  }
}

// What dot_quad counted from, taken away; then scaled into acc. `zeros` where they are stored, else
// `zero`.
template <class V, bool kWide>
typename V::F drain(typename V::I sum, bool zero_points, typename V::I zeros, int zero,
                    int32_t x_sum, typename V::F scale, float x_scale, typename V::F acc) {
  constexpr int kCountedFrom = kWide ? V::kDot8Zero : 0;
  if (zero_points) {
    const typename V::I offset = V::sub32(zeros, V::set32(kCountedFrom));
    sum = V::sub32(sum, V::mul32(offset, V::set32(x_sum)));
  } else {
    sum = V::sub32(sum, V::set32((zero - kCountedFrom) * x_sum));
  }
  return V::fma(V::to_float(sum), V::mul(scale, V::set1(x_scale)), acc);
}

// ---- few tokens: weights go from memory to registers to the dot product, once ----

// Sums of their own for quads whose numbers differ modulo kChains hide the latency of the dot
// product; integers may be added in any order.
template <class V, class C, int kTokens, int kVectors, int kChains, int kQ>
void add_quad(const C& codes, const std::byte* const (&blocks)[kVectors],
              const int8_t* const (&x)[kTokens],
              typename V::I (&sums)[kChains][kVectors][kTokens]) {
  typename V::I inputs[kTokens];
  for (int t = 0; t < kTokens; ++t) inputs[t] = V::spread32(x[t] + 4 * kQ);
  for (int v = 0; v < kVectors; ++v) {
    const typename V::I weights = codes.template quad<kQ>(blocks[v]);
    for (int t = 0; t < kTokens; ++t) {
      typename V::I& sum = sums[kQ % kChains][v][t];
      sum = dot_quad<V, C::kWide>(sum, weights, inputs[t]);
    }
  }
}

// How far ahead of the codes in use the next are asked for: about the latency of memory at the
// speed of one core's share.
constexpr int64_t kPrefetchBytes = 2048;

// acc[v][t] += ... for all units of one strip. One strip after the other is one sequential stream:
// on Zen 5 two threads read 43 GB/s that way, as a plain read does, and 31 with four strips side by
// side.
template <class V, class C, int kTokens>
void few_tokens(const C& codes, const Format& format, const Rows<V>& rows,
                const Token (&tokens)[kTokens], typename V::F (&acc)[Rows<V>::kPerStrip][kTokens]) {
  constexpr int kVectors = Rows<V>::kPerStrip;
  constexpr int kChains = kTokens * kVectors >= 4 ? 1 : 4 / (kTokens * kVectors);
  const GridLayout& layout = *rows.layout;
  const std::byte* blocks[kVectors];
  const int8_t* x[kTokens];
  for (int v = 0; v < kVectors; ++v) blocks[v] = rows.codes(v);
  for (int t = 0; t < kTokens; ++t) x[t] = tokens[t].codes;
  const int64_t units_per_x = kXBlock / (layout.unit_blocks * kBlock);
  for (int64_t unit = 0; unit < layout.units; ++unit) {
    const int64_t first = unit * layout.unit_blocks;
    const int64_t rest = layout.blocks - first;
    const int64_t count = rest < layout.unit_blocks ? rest : layout.unit_blocks;
    typename V::I sums[kChains][kVectors][kTokens];
    for (int c = 0; c < kChains; ++c)
      for (int v = 0; v < kVectors; ++v)
        for (int t = 0; t < kTokens; ++t) sums[c][v][t] = V::zero_int();
    for (int64_t b = 0; b < count; ++b) {
      for (int line = 0; line < C::kBits; ++line)
        V::prefetch(blocks[0] + kPrefetchBytes + line * kLineBytes);
      add_quad<V, C, kTokens, kVectors, kChains, 0>(codes, blocks, x, sums);
      add_quad<V, C, kTokens, kVectors, kChains, 1>(codes, blocks, x, sums);
      add_quad<V, C, kTokens, kVectors, kChains, 2>(codes, blocks, x, sums);
      add_quad<V, C, kTokens, kVectors, kChains, 3>(codes, blocks, x, sums);
      add_quad<V, C, kTokens, kVectors, kChains, 4>(codes, blocks, x, sums);
      add_quad<V, C, kTokens, kVectors, kChains, 5>(codes, blocks, x, sums);
      add_quad<V, C, kTokens, kVectors, kChains, 6>(codes, blocks, x, sums);
      add_quad<V, C, kTokens, kVectors, kChains, 7>(codes, blocks, x, sums);
      for (int v = 0; v < kVectors; ++v) blocks[v] += C::kBits * kLineBytes;
      for (int t = 0; t < kTokens; ++t) x[t] += kBlock;
    }
    for (int c = 1; c < kChains; ++c)
      for (int v = 0; v < kVectors; ++v)
        for (int t = 0; t < kTokens; ++t) sums[0][v][t] = V::add32(sums[0][v][t], sums[c][v][t]);
    for (int v = 0; v < kVectors; ++v) {
      const typename V::F scale = rows.scale(v, unit);
      const typename V::I zeros = format.zero_point ? rows.zeros(v, unit) : V::zero_int();
      for (int t = 0; t < kTokens; ++t) {
        const float x_scale = tokens[t].scales[unit / units_per_x] * codes.scale_factor();
        acc[v][t] =
            drain<V, C::kWide>(sums[0][v][t], format.zero_point, zeros, C::kZero,
                               unit_sum(tokens[t], first, count), scale, x_scale, acc[v][t]);
      }
    }
  }
}

// ---- many tokens: weights are unpacked to bytes in the first-level cache, then used by all ----

// Columns unpacked at a time: 64 rows x 512 bytes are 32 KiB.
constexpr int64_t kUnpackColumns = 512;

template <class V>
struct Unpacked {
  alignas(64) std::byte codes[kUnpackColumns / 4 * V::kVectors * V::kWidth * 4];
  alignas(64) float scales[kUnpackColumns / kBlock * V::kVectors * V::kWidth];
  alignas(64) int32_t zeros[kUnpackColumns / kBlock * V::kVectors * V::kWidth];
};

template <class V, class C, int kVectors, int kQ>
void unpack_quad(const C& codes, const std::byte* const (&blocks)[kVectors], std::byte* to) {
  for (int v = 0; v < kVectors; ++v)
    V::store_int(to + (kQ * kVectors + v) * V::kWidth * 4, codes.template quad<kQ>(blocks[v]));
}

// Units [begin, end). Asks for what is unpacked next, so that it arrives while the tokens use this:
// the same strips further on or, at their end, those of the next group.
template <class V, class C, int kVectors>
void unpack_units(const C& codes, const Format& format, const Rows<V>& rows, int64_t begin,
                  int64_t end, Unpacked<V>& to) {
  constexpr int64_t kVectorBytes = V::kWidth * 4;
  constexpr int64_t kBlockBytes = C::kBits * kLineBytes;
  const GridLayout& layout = *rows.layout;
  const int64_t first = begin * layout.unit_blocks;
  const int64_t last =
      end * layout.unit_blocks < layout.blocks ? end * layout.unit_blocks : layout.blocks;
  const int64_t next_bytes =
      last < layout.blocks
          ? (last - first) * kBlockBytes
          : kVectors / Rows<V>::kPerStrip * layout.strip_bytes - first * kBlockBytes;
  const std::byte* blocks[kVectors];
  for (int v = 0; v < kVectors; ++v) blocks[v] = rows.codes(v) + first * kBlockBytes;
  std::byte* out = to.codes;
  for (int64_t b = first; b < last; ++b, out += 8 * kVectors * kVectorBytes) {
    for (int v = 0; v < kVectors; v += Rows<V>::kPerStrip)
      for (int line = 0; line < C::kBits; ++line)
        V::prefetch_far(blocks[v] + next_bytes + line * kLineBytes);
    unpack_quad<V, C, kVectors, 0>(codes, blocks, out);
    unpack_quad<V, C, kVectors, 1>(codes, blocks, out);
    unpack_quad<V, C, kVectors, 2>(codes, blocks, out);
    unpack_quad<V, C, kVectors, 3>(codes, blocks, out);
    unpack_quad<V, C, kVectors, 4>(codes, blocks, out);
    unpack_quad<V, C, kVectors, 5>(codes, blocks, out);
    unpack_quad<V, C, kVectors, 6>(codes, blocks, out);
    unpack_quad<V, C, kVectors, 7>(codes, blocks, out);
    for (int v = 0; v < kVectors; ++v) blocks[v] += kBlockBytes;
  }
  for (int64_t unit = begin; unit < end; ++unit) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = ((unit - begin) * kVectors + v) * V::kWidth;
      V::store(to.scales + at, rows.scale(v, unit));
      if (format.zero_point) V::store_int(to.zeros + at, rows.zeros(v, unit));
    }
  }
}

// sums[t][v] = the dot products of `quads` quads. In a function of its own, so that the sums live
// in registers and in nothing else.
template <class V, bool kWide, int kTokens, int kVectors>
inline __attribute__((always_inline)) void unpacked_dots(const std::byte* weights, int64_t quads,
                                                         const int8_t* const (&x)[kTokens],
                                                         int32_t* sums) {
  typename V::I acc[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) acc[t][v] = V::zero_int();
  for (int64_t quad = 0; quad < quads; ++quad, weights += kVectors * V::kWidth * 4) {
    typename V::I w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = V::load_int(weights + v * V::kWidth * 4);
    for (int t = 0; t < kTokens; ++t) {
      const typename V::I input = V::spread32(x[t] + quad * 4);
      for (int v = 0; v < kVectors; ++v) acc[t][v] = dot_quad<V, kWide>(acc[t][v], w[v], input);
    }
  }
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v)
      V::store_int(sums + (t * kVectors + v) * V::kWidth, acc[t][v]);
}

// What of a format the unpacked weights still depend on.
struct UnpackedKind {
  bool zero_points;
  int zero;      // where none are stored
  float factor;  // of the activation scales
};

// One token's sums of one unit, scaled into acc: kVectors vectors each, and of scales and zeros.
template <class V, bool kWide, int kVectors>
inline __attribute__((always_inline)) void drain_token(const UnpackedKind& kind,
                                                       const float* scales, const int32_t* zeros,
                                                       int32_t x_sum, float x_scale,
                                                       const int32_t* sums, float* acc) {
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = v * V::kWidth;
    const typename V::I zero = kind.zero_points ? V::load_int(zeros + at) : V::set32(kind.zero);
    V::store(acc + at, drain<V, kWide>(V::load_int(sums + at), kind.zero_points, zero, kind.zero,
                                       x_sum, V::load(scales + at), x_scale, V::load(acc + at)));
  }
}

// acc (in memory, [kTokens][kVectors * kLanes]) += the unpacked units [begin, end).
template <class V, bool kWide, int kTokens, int kVectors>
void unpacked_tile(const UnpackedKind& kind, const GridLayout& layout, const Unpacked<V>& weights,
                   int64_t begin, int64_t end, const Token* tokens, float* acc) {
  const int64_t units_per_x = kXBlock / (layout.unit_blocks * kBlock);
  const std::byte* from = weights.codes;
  const int8_t* x[kTokens];
  for (int t = 0; t < kTokens; ++t) x[t] = tokens[t].codes + begin * layout.unit_blocks * kBlock;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t first = unit * layout.unit_blocks;
    const int64_t rest = layout.blocks - first;
    const int64_t count = rest < layout.unit_blocks ? rest : layout.unit_blocks;
    alignas(64) int32_t sums[kTokens * kVectors * V::kWidth];
    unpacked_dots<V, kWide, kTokens, kVectors>(from, count * 8, x, sums);
    from += count * 8 * kVectors * V::kWidth * 4;
    const float* scales = weights.scales + (unit - begin) * kVectors * V::kWidth;
    const int32_t* zeros = weights.zeros + (unit - begin) * kVectors * V::kWidth;
    for (int t = 0; t < kTokens; ++t) {
      x[t] += count * kBlock;
      const int32_t x_sum = unit_sum(tokens[t], first, count);
      const float x_scale = tokens[t].scales[unit / units_per_x] * kind.factor;
      const int64_t at = t * kVectors * V::kWidth;
      drain_token<V, kWide, kVectors>(kind, scales, zeros, x_sum, x_scale, sums + at, acc + at);
    }
  }
}

}  // namespace
}  // namespace quench
