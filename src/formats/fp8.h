// Eight-bit floating point with a shared scale: value = scale * e4m3(code), one f32 scale per row
// or per block of 128 x 128 weights (Qwen's FP8 checkpoints).
//
// e4m3 (Micikevicius et al. 2022, FP8 Formats for Deep Learning, table 1): sign, 4 exponent bits
// with bias 7, 3 mantissa bits; denormals; no infinity; 0x7f and 0xff are NaN; largest 448.
// Planes of one tile: codes, one byte per weight, row by row; scales, one f32.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "base/bytes.h"
#include "formats/format.h"

namespace quench::fp8_format {

constexpr float kLargest = 448.0f;

constexpr std::array<float, 256> make_values() {
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> 3 & 15;
    float value = static_cast<float>((exponent == 0 ? 0 : 8) + (code & 7)) / 512.0f;
    for (int i = 1; i < exponent; ++i) value *= 2.0f;
    if ((code & 0x7f) == 0x7f) value = std::numeric_limits<float>::quiet_NaN();
    values[static_cast<size_t>(code)] = code < 128 ? value : -value;
  }
  return values;
}
inline constexpr std::array<float, 256> kValues = make_values();

// To nearest, ties to even; beyond the largest, the largest.
inline uint8_t nearest_code(float x) {
  const float magnitude = std::fabs(x);
  const int sign = std::signbit(x) ? 0x80 : 0;
  if (!(magnitude < kLargest)) return static_cast<uint8_t>(sign | 0x7e);
  // The step of the numbers around it: 2^-9 up to 2^-6, then 2^-3 of the power of two below.
  const int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));
  // Steps run on into the next power of two: 16 of them are the 8 of the next.
  return static_cast<uint8_t>(sign | (steps + (exponent + 6) * 8));
}

inline void encode(const Format& format, const float* x, int64_t x_stride, int64_t cols,
                   const Planes& tile) {
  float largest = 0.0f;
  for (int64_t row = 0; row < format.tile_rows; ++row) {
    for (int64_t i = 0; i < cols; ++i)
      largest = std::max(largest, std::fabs(x[row * x_stride + i]));
  }
  const float scale = largest / kLargest;
  const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  std::byte* codes = tile[0];
  for (int64_t row = 0; row < format.tile_rows; ++row, codes += cols) {
    for (int64_t i = 0; i < cols; ++i)
      codes[i] = static_cast<std::byte>(nearest_code(x[row * x_stride + i] * inverse));
  }
  store<float>(tile[1], scale);
}

inline void decode(const Format& format, const ConstPlanes& tile, int64_t cols, float* x,
                   int64_t x_stride) {
  const auto scale = load<float>(tile[1]);
  const std::byte* codes = tile[0];
  for (int64_t row = 0; row < format.tile_rows; ++row, codes += cols) {
    for (int64_t i = 0; i < cols; ++i)
      x[row * x_stride + i] = scale * kValues[static_cast<uint8_t>(codes[i])];
  }
}

inline Format make(const char* name, const char* description, int64_t tile_rows,
                   int64_t tile_cols) {
  Format format;
  format.name = name;
  format.description = description;
  format.tile_rows = tile_rows;
  format.tile_cols = tile_cols;
  format.planes = {{"codes", 8, 0}, {"scales", 0, 4}};
  format.bits = 8;
  format.encode = encode;
  format.decode = decode;
  return format;
}

inline std::vector<Format> formats() {
  return {make("fp8", "e4m3 floats, f32 scale per row", 1, 0),
          make("fp8_b128", "e4m3 floats, f32 scale per block of 128 x 128 weights", 128, 128)};
}

}  // namespace quench::fp8_format
