// Integer codes with a shared scale: value = scale * (code - zero), for 2 to 8 bits, per row or per
// group of 32, 64 or 128 neighbours of a row. Symmetric formats fix zero at the middle, 2^(bits-1);
// zero-point formats store it.
//
// Planes of one tile (one group): codes, a little-endian bit stream (code i at bits [i*bits,
// (i+1)*bits)); scales, one f16 (f32 for whole rows, where its bytes do not count; bf16 in formats
// named so, for checkpoints whose scales have that type); zeros, one uint8, only with a zero point.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/lanes.h"
#include "formats/scale.h"

namespace quench::integer_format {

// Eight codes, one per byte, side by side: the odd ones move to their neighbours, pairs to pairs,
// fours to fours.
inline uint64_t join_codes(uint64_t bytes, int bits) {
  constexpr uint64_t kEvenBytes = 0x00ff00ff00ff00ff;
  constexpr uint64_t kEvenPairs = 0x0000ffff0000ffff;
  const uint64_t pairs = (bytes & kEvenBytes) | (bytes >> 8 & kEvenBytes) << bits;
  const uint64_t fours = (pairs & kEvenPairs) | (pairs >> 16 & kEvenPairs) << (2 * bits);
  return (fours & 0xffffffff) | fours >> 32 << (4 * bits);
}

inline void put_codes(const uint8_t* codes, int64_t count, int bits, std::byte* out) {
  int64_t i = 0;
  if (bits == 8) {
    std::memcpy(out, codes, static_cast<size_t>(count));
    return;
  }
  for (; i + 8 <= count; i += 8, out += bits) {  // whole bytes
    uint64_t bytes = 0;
    std::memcpy(&bytes, codes + i, 8);
    const uint64_t word = join_codes(bytes, bits);
    std::memcpy(out, &word, static_cast<size_t>(bits));
  }
  uint32_t buffer = 0;
  int filled = 0;
  for (; i < count; ++i) {
    buffer |= static_cast<uint32_t>(codes[i]) << filled;
    for (filled += bits; filled >= 8; filled -= 8, buffer >>= 8)
      *out++ = static_cast<std::byte>(buffer);
  }
}

// The nearest whole number in [low, high] of x over a scale.
template <class L>
struct Rounding {
  L scale, inverse, low, high;
  [[gnu::always_inline]] Rounding(float scale_, int zero, int max_code)
      : scale(L::splat(scale_)),
        inverse(L::splat(scale_ != 0.0f ? 1.0f / scale_ : 0.0f)),
        low(L::splat(static_cast<float>(-zero))),
        high(L::splat(static_cast<float>(max_code - zero))) {}
  [[gnu::always_inline]] L level(const L& x) const {
    return round_even(min(max(x * inverse, low), high));
  }
  [[gnu::always_inline]] L square_error(const L& x) const {
    const L difference = x - scale * level(x);
    return difference * difference;
  }
};

template <class L>
[[gnu::always_inline]] inline void put_rounded(const float* x, int64_t count, float scale, int zero,
                                               int bits, std::byte* out) {
  constexpr int64_t kChunk = 128;  // whole bytes for every width
  const Rounding<L> rounding(scale, zero, (1 << bits) - 1);
  const L offset = L::splat(static_cast<float>(zero));
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t n = std::min(kChunk, count - begin);
    float level[kChunk] = {};
    for_each_lanes<L>(
        x + begin, n, [&](const L& v, int64_t i) __attribute__((always_inline)) {
          (rounding.level(v) + offset).store(level + i);
        });
    uint8_t codes[kChunk];
    for (int64_t i = 0; i < kChunk; ++i)
      codes[i] = static_cast<uint8_t>(static_cast<int>(level[i]));
    put_codes(codes, n, bits, out + begin * bits / 8);
  }
}

// Round to nearest. Symmetric: of the two natural scales (the largest magnitude at the outermost
// negative code, or at the outermost positive one with that of the other sign left unused) the one
// with the smaller squared error.
template <class L>
void encode(const Format& format, const float* x, int64_t, int64_t cols, const Planes& tile) {
  const int max_code = (1 << format.bits) - 1;
  L lows = L::splat(0.0f);
  L highs = lows;
  for_each_lanes<L>(
      x, cols, [&](const L& v, int64_t) __attribute__((always_inline)) {
        lows = min(v, lows);
        highs = max(v, highs);
      });
  const float low = lows.least();
  const float high = highs.largest();
  float scale = 0.0f;
  int zero = 1 << (format.bits - 1);
  if (format.zero_point) {
    scale = stored_scale(format.grid.scale, (high - low) / static_cast<float>(max_code));
    zero =
        scale == 0.0f ? 0 : std::clamp(static_cast<int>(std::nearbyint(-low / scale)), 0, max_code);
    tile[2][0] = static_cast<std::byte>(zero);
  } else {
    const float extreme = -low > high ? low : high;
    const float full = stored_scale(format.grid.scale, -extreme / static_cast<float>(zero));
    const float even =
        stored_scale(format.grid.scale, std::fabs(extreme) / static_cast<float>(zero - 1));
    const Rounding<L> by_full(full, zero, max_code);
    const Rounding<L> by_even(even, zero, max_code);
    L full_error = L::splat(0.0f);
    L even_error = full_error;
    for_each_lanes<L>(
        x, cols, [&](const L& v, int64_t) __attribute__((always_inline)) {
          full_error += by_full.square_error(v);
          even_error += by_even.square_error(v);
        });
    scale = full_error.sum() < even_error.sum() ? full : even;
  }
  put_rounded<L>(x, cols, scale, zero, format.bits, tile[0]);
  put_scale(format.grid.scale, scale, tile[1]);
}

inline uint8_t get_zero(const Format& format, const ConstPlanes& tile) {
  return format.zero_point ? static_cast<uint8_t>(tile[2][0])
                           : static_cast<uint8_t>(1 << (format.bits - 1));
}

// Eight codes are kBits whole bytes: one load, eight shifts, no branch.
template <int kBits, class Use>
void for_each_code(const std::byte* codes, int64_t cols, Use use) {
  int64_t i = 0;
  for (; i + 8 <= cols; i += 8, codes += kBits) {
    uint64_t word = 0;
    std::memcpy(&word, codes, kBits);
    for (int j = 0; j < 8; ++j) use(i + j, word >> (j * kBits) & ((1u << kBits) - 1));
  }
  // Groups are multiples of eight; only a whole row of bytes has a rest.
  for (; i < cols; ++i, ++codes) use(i, static_cast<uint64_t>(*codes));
}

template <int kBits>
void decode(const Format& format, const ConstPlanes& tile, int64_t cols, float* x, int64_t) {
  const float scale = get_scale(format.grid.scale, tile[1]);
  const int zero = get_zero(format, tile);
  for_each_code<kBits>(tile[0], cols, [&](int64_t i, uint64_t code) {
    x[i] = scale * static_cast<float>(static_cast<int>(code) - zero);
  });
}

template <int kBits>
void read_codes(const Format& format, const ConstPlanes& tile, int64_t cols, uint8_t* codes,
                GridScales* scales) {
  scales->scale = get_scale(format.grid.scale, tile[1]);
  scales->zero = get_zero(format, tile);
  for_each_code<kBits>(tile[0], cols,
                       [&](int64_t i, uint64_t code) { codes[i] = static_cast<uint8_t>(code); });
}

inline void write_codes(const Format& format, const uint8_t* codes, int64_t cols,
                        const GridScales& scales, const Planes& tile) {
  put_codes(codes, cols, format.bits, tile[0]);
  put_scale(format.grid.scale, scales.scale, tile[1]);
  if (format.zero_point) tile[2][0] = static_cast<std::byte>(scales.zero);
}

inline Format make(int bits, int group, bool zero_point, ScaleType scale) {
  constexpr const char* kScaleNames[] = {"f16", "bf16", "f32"};
  const char* scale_name = kScaleNames[static_cast<int>(scale)];
  Format format;
  format.name = fmt::format("int{}{}{}{}", bits, group == 0 ? "" : fmt::format("_g{}", group),
                            zero_point ? "_zp" : "", scale == ScaleType::kBF16 ? "_bf16" : "");
  format.description = fmt::format("{}-bit integers, {} scale per {}{}", bits, scale_name,
                                   group == 0 ? "row" : fmt::format("{} weights", group),
                                   zero_point ? ", with zero point" : ", symmetric");
  format.tile_cols = group;
  format.planes = {{"codes", static_cast<double>(bits), 0}, {"scales", 0, scale_bytes(scale)}};
  if (zero_point) format.planes.push_back({"zeros", 0, 1});
  format.bits = bits;
  format.zero_point = zero_point;
  format.encode = with_avx2<encode<Lanes<4>>, encode<Lanes<8>>>();
  const decltype(format.decode) decoders[] = {nullptr,
                                              nullptr,
                                              with_avx2<decode<2>>(),
                                              with_avx2<decode<3>>(),
                                              with_avx2<decode<4>>(),
                                              with_avx2<decode<5>>(),
                                              with_avx2<decode<6>>(),
                                              nullptr,
                                              with_avx2<decode<8>>()};
  format.decode = decoders[bits];
  constexpr decltype(format.grid.read) kRead[] = {nullptr,       nullptr,       read_codes<2>,
                                                  read_codes<3>, read_codes<4>, read_codes<5>,
                                                  read_codes<6>, nullptr,       read_codes<8>};
  format.grid.read = kRead[bits];
  format.grid.write = write_codes;
  format.grid.scale = scale;
  return format;
}

inline std::vector<Format> formats() {
  std::vector<Format> result = {make(8, 0, false, ScaleType::kF32)};
  for (const ScaleType scale : {ScaleType::kF16, ScaleType::kBF16}) {
    for (int bits : {8, 6, 5, 4, 3, 2}) {
      // bf16 is for what checkpoints have.
      if (scale == ScaleType::kBF16 && bits != 8 && bits != 4) continue;
      for (int group : {128, 64, 32}) {
        result.push_back(make(bits, group, false, scale));
        result.push_back(make(bits, group, true, scale));
      }
    }
  }
  return result;
}

}  // namespace quench::integer_format
