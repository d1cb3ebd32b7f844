// Four-bit codes that index a table of 16 levels: value = scale * level[code], one scale per group
// of a row. Unlike integers the levels lie denser where the weights are.
//
// nf4: the quantiles of a normal distribution (Dettmers et al. 2023, QLoRA, appendix E), scaled by
// the largest magnitude of the group; with f32 scales they are those of bitsandbytes. iq4: the
// integer levels of llama.cpp's IQ4_NL type. Planes of one tile (one group): codes, two per byte,
// the first in the low half; scales, one f16 or f32.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "formats/scale.h"

namespace quench::table_format {

inline constexpr float kNf4[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};
inline constexpr float kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

inline uint8_t nearest_code(const float* levels, float x) {
  const float* above = std::lower_bound(levels, levels + 16, x);
  if (above == levels) return 0;
  if (above == levels + 16) return 15;
  const bool lower_is_nearer = x - above[-1] <= above[0] - x;
  return static_cast<uint8_t>(above - levels - (lower_is_nearer ? 1 : 0));
}

inline double rounding_error(const float* levels, const float* x, int64_t cols, float scale) {
  const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
  double error = 0.0;
  for (int64_t i = 0; i < cols; ++i) {
    const double difference = x[i] - scale * levels[nearest_code(levels, x[i] * inverse)];
    error += difference * difference;
  }
  return error;
}

// The largest magnitude goes to the outermost level of its sign or, where that is better, with all
// signs turned (the two ends of the tables are not alike).
inline void encode(const Format& format, const float* x, int64_t, int64_t cols,
                   const Planes& tile) {
  const float* levels = format.grid.levels;
  const auto [low, high] = std::minmax_element(x, x + cols);
  const float extreme = -*low > *high ? *low : *high;
  const float down = stored_scale(format.grid.scale, extreme / levels[0]);
  const float up = stored_scale(format.grid.scale, extreme / levels[15]);
  const float scale =
      rounding_error(levels, x, cols, down) <= rounding_error(levels, x, cols, up) ? down : up;
  const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
  for (int64_t i = 0; i < cols; i += 2) {
    tile[0][i / 2] = static_cast<std::byte>(nearest_code(levels, x[i] * inverse) |
                                            nearest_code(levels, x[i + 1] * inverse) << 4);
  }
  put_scale(format.grid.scale, scale, tile[1]);
}

inline void read_codes(const Format& format, const ConstPlanes& tile, int64_t cols, uint8_t* codes,
                       GridScales* scales) {
  scales->scale = get_scale(format.grid.scale, tile[1]);
  for (int64_t i = 0; i < cols; i += 2) {
    const auto pair = static_cast<uint8_t>(tile[0][i / 2]);
    codes[i] = pair & 15;
    codes[i + 1] = pair >> 4;
  }
}

inline void decode(const Format& format, const ConstPlanes& tile, int64_t cols, float* x, int64_t) {
  const float scale = get_scale(format.grid.scale, tile[1]);
  for (int64_t i = 0; i < cols; i += 2) {
    const auto pair = static_cast<uint8_t>(tile[0][i / 2]);
    x[i] = scale * format.grid.levels[pair & 15];
    x[i + 1] = scale * format.grid.levels[pair >> 4];
  }
}

inline void write_codes(const Format& format, const uint8_t* codes, int64_t cols,
                        const GridScales& scales, const Planes& tile) {
  for (int64_t i = 0; i < cols; i += 2)
    tile[0][i / 2] = static_cast<std::byte>(codes[i] | codes[i + 1] << 4);
  put_scale(format.grid.scale, scales.scale, tile[1]);
}

inline Format make(const char* name, std::string description, int64_t group, const float* levels,
                   ScaleType scale) {
  Format format;
  format.name = name;
  format.description = std::move(description);
  format.tile_cols = group;
  format.planes = {{"codes", 4, 0}, {"scales", 0, scale_bytes(scale)}};
  format.bits = 4;
  format.encode = encode;
  format.decode = decode;
  format.grid.read = read_codes;
  format.grid.write = write_codes;
  format.grid.levels = levels;
  format.grid.scale = scale;
  return format;
}

inline std::vector<Format> formats() {
  constexpr auto kNormal = "16 levels after the normal distribution, {} scale per 64 weights";
  return {make("nf4_g64", fmt::format(kNormal, "f16"), 64, kNf4, ScaleType::kF16),
          make("nf4_g64_f32", fmt::format(kNormal, "f32"), 64, kNf4, ScaleType::kF32),
          make("iq4_g32", "16 integer levels, denser around zero, f16 scale per 32 weights", 32,
               kIq4, ScaleType::kF16)};
}

}  // namespace quench::table_format
