// Matmul of grid strips (strip_inl.h) with int8 activations, as templates over a vector class.
//
// Arithmetic, the same for every m, thread count and call: an input row is quantized per 128
// columns (scale = largest magnitude / 127, codes round to even). A unit is the columns under one
// weight scale and one activation scale, at most 128; its integer sum d of level * input code (less
// a fixed zero) is exact. Units in ascending order add to the sum b of their 128 columns, from 0:
// with minimums or zero points b = fma(-sum of input codes, min, b), a zero point's min being its
// scale times it; then b = fma(float(d), scale, b). At its end acc = fma(b, activation scale, acc),
// from 0. A column whose input stands out is 0 among the integers; at last, in ascending order,
// acc = fma(input, weight, acc) of these. y = acc + bias. Sums in integers are exact, so every ISA
// level gives the same bits too.
#pragma once

#include "devices/cpu/codes_inl.h"

namespace quench {
namespace {

// `columns` numbers to codes, their scale and the sums of the codes. Returns the sum of the codes'
// magnitudes.
template <class V>
int32_t quantize_block(const float* x, int64_t columns, int8_t* codes, float* scale,
                       int32_t* sums) {
  typename V::F largest = V::zero();
  typename V::F strange = V::zero();  // 0, or not a number where an input is none or infinite
  for (int64_t i = 0; i < columns; i += V::kWidth) {
    const typename V::F value = V::load(x + i);
    largest = V::max(V::abs(value), largest);  // the latter where the former is no number
    strange = V::add(strange, V::sub(value, value));
  }
  const float amax = V::reduce_max(largest);
  // The smallest normal number keeps the quotient finite; such rows are zero for all purposes.
  // Adding 0 changes no bit; otherwise what comes out is no number either.
  *scale = (amax > 1e-30f ? amax / 127.0f : 0.0f) + V::reduce_add(strange);
  const typename V::F inverse = V::set1(amax > 1e-30f ? 127.0f / amax : 0.0f);
  typename V::I magnitudes = V::zero_int();
  for (int64_t part = 0; part < columns; part += kSumColumns) {
    typename V::I sum = V::zero_int();
    for (int64_t i = part; i < part + kSumColumns; i += V::kWidth) {
      const typename V::I code = V::store_rounded(codes + i, V::mul(V::load(x + i), inverse));
      sum = V::add32(sum, code);
      magnitudes = V::add32(magnitudes, V::abs32(code));
    }
    sums[kSums / 2 + part / kSumColumns] = V::sum_lanes(sum);
  }
  for (int64_t i = kSums / 2 + columns / kSumColumns; i < kSums; ++i) sums[i] = 0;
  for (int64_t i = kSums / 2 - 1; i > 0; --i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  return V::sum_lanes(magnitudes);
}

// Rows [begin, end) of x.
template <class V>
void quantize_rows(const float* x, int64_t begin, int64_t end, const QuantizedInput& input) {
  const int64_t k = input.k;
  for (int64_t row = begin; row < end; ++row) {
    Spike* spikes = input.spikes + row * input.x_blocks * kMaxSpikes;
    int32_t num_spikes = 0;
    for (int64_t b = 0; b < input.x_blocks; ++b) {
      const int64_t first = b * kXBlock;
      const int64_t columns = first + kXBlock < k ? kXBlock : k - first;
      const float* from = x + row * k + first;
      int8_t* codes = input.codes + row * k + first;
      float* scale = input.scales + row * input.x_blocks + b;
      int32_t* sums = input.sums + (row * input.x_blocks + b) * kSums;
      const int64_t magnitudes = quantize_block<V>(from, columns, codes, scale, sums);
      if (magnitudes <= 0 || magnitudes * kSpikeRatio >= 127 * columns) continue;
      // In integers, so that every level finds the same. The limit is for numbers that are none.
      const auto limit = static_cast<int32_t>((b + 1) * kMaxSpikes);
      alignas(64) float rest[kXBlock];
      for (int64_t i = 0; i < columns; ++i) {
        const int64_t magnitude = codes[i] < 0 ? -codes[i] : codes[i];
        const bool is_spike = magnitude * columns > magnitudes * kSpikeRatio && num_spikes < limit;
        if (is_spike) spikes[num_spikes++] = {static_cast<int32_t>(first + i), from[i]};
        rest[i] = is_spike ? 0.0f : from[i];
      }
      quantize_block<V>(rest, columns, codes, scale, sums);
    }
    input.num_spikes[row] = num_spikes;
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
    const int64_t lane = vector_lane(v);
    const std::byte* const strip_v = strip_of(v);
    const std::byte* at = strip_v + (unit >> layout->scale_shift) * layout->scale_bytes;
    const typename V::F scale = load_scale(at, lane);
    if (layout->small_begin == 0) return scale;
    const std::byte* small = strip_v + layout->small_begin + unit * kStripRows + lane;
    return V::mul(scale, V::to_float(V::load_i8(small)));
  }
  // Of a format with minimums; `scale` is that of the same unit.
  typename V::F min(int64_t v, int64_t unit, typename V::F scale) const {
    const int64_t lane = vector_lane(v);
    const std::byte* const strip_v = strip_of(v);
    const int64_t tile = (unit >> layout->scale_shift) * kStripRows + lane;
    if (layout->mins_begin == 0)
      return V::mul(scale, V::to_float(V::load_u8(strip_v + layout->zeros_begin + tile)));
    const typename V::F min = V::load_f16(strip_v + layout->mins_begin + tile * 2);
    if (layout->zeros_begin == 0) return min;
    const std::byte* small = strip_v + layout->zeros_begin + unit * kStripRows + lane;
    return V::mul(min, V::to_float(V::load_u8(small)));
  }

 private:
  static int64_t vector_lane(int64_t v) { return v % kPerStrip * V::kWidth; }
  const std::byte* strip_of(int64_t v) const { return strip + v / kPerStrip * layout->strip_bytes; }
  typename V::F load_scale(const std::byte* at, int64_t lane) const {
    if (layout->scale_type == ScaleType::kF16) return V::load_f16(at + lane * 2);
    if (layout->scale_type == ScaleType::kBF16) return V::load_bf16(at + lane * 2);
    return V::load(reinterpret_cast<const float*>(at) + lane);
  }
};

// One token's input.
struct Token {
  const int8_t* codes;
  const float* scales;
  const int32_t* sums;
  const Spike* spikes;
  int64_t num_spikes;
};

// Where a unit lies.
struct Unit {
  int64_t first;    // column
  int64_t columns;  // fewer than layout.unit in the last one of a row
  bool begins;      // the first of its 128 columns
  bool ends;        // the last of them
};
inline Unit unit_at(const GridLayout& layout, int64_t unit) {
  const int64_t first = unit * layout.unit;
  const int64_t rest = layout.columns - first;
  return {first, rest < layout.unit ? rest : layout.unit, (unit & (layout.x_units - 1)) == 0,
          ((unit + 1) & (layout.x_units - 1)) == 0 || unit + 1 == layout.units};
}

// Of a token's sums that of unit `unit`, when x_units of them are under one activation scale.
inline int64_t sum_index(int64_t unit, int64_t x_units) {
  return (unit & -x_units) * (kSums / x_units) + x_units + (unit & (x_units - 1));
}

template <class V, bool kWide>
typename V::I dot_quad(typename V::I sum, typename V::I weights, typename V::I x) {
  if constexpr (kWide) {
    return V::dot8(sum, weights, x);
  } else {
    return V::dot(sum, weights, x);
  }
}

// What a sum of dot_quad is short of per input code: it counts weights from kDot8Zero, and the
// fixed zero of a format without minimums is still in it.
template <class V, bool kWide>
constexpr int sum_offset(bool has_min, int zero) {
  return (kWide ? V::kDot8Zero : 0) - (has_min ? 0 : zero);
}

// Quad `q`, kQ or a later one, of the blocks that C takes together.
template <class V, class C, int kQ = 0>
typename V::I quad_at(const C& codes, const std::byte* block, int64_t q) {
  if constexpr (kQ + 1 < C::kBlocks * kBlock / kQuad) {
    if (q > kQ) return quad_at<V, C, kQ + 1>(codes, block, q);
  }
  return codes.template quad<kQ>(block);
}

// The weights of one column.
template <class V, class C>
typename V::F column_weights(const C& codes, const Rows<V>& rows, int64_t v, int64_t column) {
  const GridLayout& layout = *rows.layout;
  constexpr int64_t kTaken = C::kBlocks * kBlock;
  const std::byte* block = rows.codes(v) + column / kTaken * C::kLines * kLineBytes;
  const typename V::I quad = quad_at<V, C>(codes, block, column % kTaken / kQuad);
  const int64_t unit = column / layout.unit;
  const bool has_min = layout.has_min();
  const int above = static_cast<int>(24 - 8 * (column % kQuad));
  const typename V::I level =
      V::sub32(V::right32(V::left32(quad, above), 24), V::set32(has_min ? 0 : C::kZero));
  const typename V::F scale = rows.scale(v, unit);
  const typename V::F weight =
      V::mul(V::to_float(level), V::mul(scale, V::set1(codes.scale_factor())));
  return has_min ? V::sub(weight, rows.min(v, unit, scale)) : weight;
}

// ---- many tokens: weights are unpacked to bytes in the first-level cache, then used by all ----

// Columns unpacked at a time: 64 rows x 512 bytes are 32 KiB.
constexpr int64_t kUnpackColumns = 512;

template <class V>
struct Unpacked {
  static constexpr int64_t kLanes = V::kVectors * V::kWidth;
  alignas(64) std::byte codes[kUnpackColumns / kQuad * kLanes * 4];
  alignas(64) float scales[kUnpackColumns / kSumColumns * kLanes];
  alignas(64) float mins[kUnpackColumns / kSumColumns * kLanes];
};

template <class V, class C, int kVectors, int kQ>
void unpack_quad(const C& codes, const std::byte* const (&blocks)[kVectors], std::byte* to) {
  for (int v = 0; v < kVectors; ++v)
    V::store_int(to + (kQ * kVectors + v) * V::kWidth * 4, codes.template quad<kQ>(blocks[v]));
}

// The eight quads from kFirst on.
template <class V, class C, int kVectors, int kFirst>
void unpack_block(const C& codes, const std::byte* const (&blocks)[kVectors], std::byte* to) {
  unpack_quad<V, C, kVectors, kFirst>(codes, blocks, to);
  unpack_quad<V, C, kVectors, kFirst + 1>(codes, blocks, to);
  unpack_quad<V, C, kVectors, kFirst + 2>(codes, blocks, to);
  unpack_quad<V, C, kVectors, kFirst + 3>(codes, blocks, to);
  unpack_quad<V, C, kVectors, kFirst + 4>(codes, blocks, to);
  unpack_quad<V, C, kVectors, kFirst + 5>(codes, blocks, to);
  unpack_quad<V, C, kVectors, kFirst + 6>(codes, blocks, to);
  unpack_quad<V, C, kVectors, kFirst + 7>(codes, blocks, to);
}

// Units [begin, end). Asks for what is unpacked next, so that it arrives while the tokens use this:
// the same strips further on or, at their end, those of the next group.
template <class V, class C, int kVectors>
void unpack_units(const C& codes, const Rows<V>& rows, int64_t begin, int64_t end,
                  Unpacked<V>& to) {
  constexpr int64_t kVectorBytes = V::kWidth * 4;
  constexpr int64_t kTaken = C::kBlocks * kBlock;
  constexpr int64_t kBlockBytes = C::kLines * kLineBytes;
  const GridLayout& layout = *rows.layout;
  const int64_t num_blocks = layout.columns / kTaken;
  const int64_t first = begin * layout.unit / kTaken;
  const int64_t last = end * layout.unit < layout.columns ? end * layout.unit / kTaken : num_blocks;
  const int64_t next_bytes =
      last < num_blocks ? (last - first) * kBlockBytes
                        : kVectors / Rows<V>::kPerStrip * layout.strip_bytes - first * kBlockBytes;
  const std::byte* blocks[kVectors];
  for (int v = 0; v < kVectors; ++v) blocks[v] = rows.codes(v) + first * kBlockBytes;
  std::byte* out = to.codes;
  for (int64_t b = first; b < last; ++b, out += 8 * C::kBlocks * kVectors * kVectorBytes) {
    for (int v = 0; v < kVectors; v += Rows<V>::kPerStrip)
      for (int line = 0; line < C::kLines; ++line)
        V::prefetch_far(blocks[v] + next_bytes + line * kLineBytes);
    unpack_block<V, C, kVectors, 0>(codes, blocks, out);
    if constexpr (C::kBlocks == 2) unpack_block<V, C, kVectors, 8>(codes, blocks, out);
    for (int v = 0; v < kVectors; ++v) blocks[v] += kBlockBytes;
  }
  for (int64_t unit = begin; unit < end; ++unit) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = ((unit - begin) * kVectors + v) * V::kWidth;
      const typename V::F scale = rows.scale(v, unit);
      V::store(to.scales + at, scale);
      if (layout.has_min()) V::store(to.mins + at, rows.min(v, unit, scale));
    }
  }
}

// What of a format the unpacked weights still depend on.
struct UnpackedKind {
  bool has_min;
  int zero;      // without minimums
  float factor;  // of the activation scales
};

// sums += the products of a quad.
template <class V, bool kWide, int kTokens, int kVectors>
inline __attribute__((always_inline)) void add_unpacked(const std::byte* weights,
                                                        const Token* tokens, int64_t column,
                                                        typename V::I (&sums)[kTokens][kVectors]) {
  typename V::I inputs[kTokens];
  for (int t = 0; t < kTokens; ++t) inputs[t] = V::spread32(tokens[t].codes + column);
  for (int v = 0; v < kVectors; ++v) {
    const typename V::I w = V::load_int(weights + v * V::kWidth * 4);
    for (int t = 0; t < kTokens; ++t) sums[t][v] = dot_quad<V, kWide>(sums[t][v], w, inputs[t]);
  }
}

// Columns [begin, end) of the unpacked weights.
struct UnpackedColumns {
  int64_t first;  // of `codes`
  int64_t begin;
  int64_t end;
};

// acc (in memory, [kTokens][kVectors * kWidth]) += units of kQuads quads; 0: the one unit at the
// end of a row that is shorter than 128. Everything that a unit adds to lives in registers, and the
// quads of a unit are unrolled: what follows a unit of 16 or 32 columns would otherwise cost as
// much as the unit.
template <class V, bool kWide, int kTokens, int kVectors, int kQuads>
void unpacked_tile(const UnpackedKind& kind, const Unpacked<V>& weights,
                   const UnpackedColumns& columns, const Token* tokens, float* acc) {
  constexpr int64_t kLanes = kVectors * V::kWidth;
  constexpr int64_t kUnit = kQuads * kQuad;
  constexpr bool kOneUnit = kQuads == 0 || kUnit == kXBlock;  // under an activation scale
  const int offset = sum_offset<V, kWide>(kind.has_min, kind.zero);
  const int64_t unit = kQuads > 0 ? kUnit : columns.end - columns.begin;
  const int64_t done = columns.begin - columns.first;
  const int64_t units_done = kQuads > 0 ? done / kUnit : done / kXBlock;
  const std::byte* w = weights.codes + done * kLanes;
  const float* scales = weights.scales + units_done * kLanes;
  const float* mins = weights.mins + units_done * kLanes;
  for (int64_t column = columns.begin; column < columns.end;) {
    const int64_t x_block = column / kXBlock;
    const int64_t next = (x_block + 1) * kXBlock;
    const int64_t stop = next < columns.end ? next : columns.end;
    typename V::F b[kTokens][kVectors];
    for (int t = 0; t < kTokens; ++t)
      for (int v = 0; v < kVectors; ++v) b[t][v] = V::zero();
    do {
      int32_t x_sums[kTokens];
      for (int t = 0; t < kTokens; ++t) {
        constexpr int64_t kUnits = kOneUnit ? 1 : kXBlock / kUnit;
        x_sums[t] = tokens[t].sums[sum_index(kOneUnit ? x_block : column / kUnit, kUnits)];
      }
      if (kind.has_min) {
        for (int t = 0; t < kTokens; ++t) {
          const typename V::F x = V::set1(static_cast<float>(x_sums[t]));
          for (int v = 0; v < kVectors; ++v)
            b[t][v] = V::fnma(x, V::load(mins + v * V::kWidth), b[t][v]);
        }
      }
      typename V::I sums[kTokens][kVectors];
      for (int t = 0; t < kTokens; ++t)
        for (int v = 0; v < kVectors; ++v) sums[t][v] = V::set32(offset * x_sums[t]);
      if constexpr (kQuads > 0) {
#pragma GCC unroll 32
        for (int quad = 0; quad < kQuads; ++quad)
          add_unpacked<V, kWide, kTokens, kVectors>(w + quad * kLanes * 4, tokens,
                                                    column + quad * kQuad, sums);
      } else {
        for (int64_t i = 0; i < unit; i += kQuad)
          add_unpacked<V, kWide, kTokens, kVectors>(w + i * kLanes, tokens, column + i, sums);
      }
      for (int t = 0; t < kTokens; ++t)
        for (int v = 0; v < kVectors; ++v)
          b[t][v] = V::fma(V::to_float(sums[t][v]), V::load(scales + v * V::kWidth), b[t][v]);
      w += unit * kLanes;
      scales += kLanes;
      mins += kLanes;
      column += unit;
    } while (!kOneUnit && column < stop);
    for (int t = 0; t < kTokens; ++t) {
      const typename V::F x_scale = V::set1(tokens[t].scales[x_block] * kind.factor);
      for (int v = 0; v < kVectors; ++v) {
        float* const at = acc + t * kLanes + v * V::kWidth;
        V::store(at, V::fma(b[t][v], x_scale, V::load(at)));
      }
    }
  }
}

}  // namespace
}  // namespace quench
