// Trellis coded weights (trellis_code.h): 2, 2.5 or 3 bits per weight and one f16 scale per row.
// Made for weights in a rotated basis, whose rows look normal; without rotation outliers cost
// dearly.
//
// Planes of one tile (16 rows): codes; scales, 16 f16.
#pragma once

#include <cmath>
#include <vector>

#include "base/bytes.h"
#include "base/float16.h"
#include "formats/format.h"
#include "formats/trellis_code.h"

namespace quench::trellis_format {

inline void encode_by(TrellisStep step, const Format& format, const float* x, int64_t x_stride,
                      int64_t cols, const Planes& tile) {
  const TrellisCode& code = *format.trellis;
  float scales[kTrellisRows];
  for (int64_t r = 0; r < kTrellisRows; ++r) {
    scales[r] = trellis_row_scale(code, x + r * x_stride, cols);
    store<uint16_t>(tile[1] + 2 * r, f32_to_f16(scales[r]));
  }
  float targets[kTrellisRows * kTrellisCols];
  for (int64_t column = 0; column < cols; column += kTrellisCols) {
    for (int64_t r = 0; r < kTrellisRows; ++r) {
      const float inverse = scales[r] > 0.0f ? 1.0f / scales[r] : 0.0f;
      for (int64_t c = 0; c < kTrellisCols; ++c)
        targets[r * kTrellisCols + c] = x[r * x_stride + column + c] * inverse;
    }
    encode_trellis_block(code, targets, nullptr, tile[0], column / kTrellisCols, step);
  }
}

inline void encode(const Format& format, const float* x, int64_t x_stride, int64_t cols,
                   const Planes& tile) {
  encode_by(trellis_step, format, x, x_stride, cols, tile);
}

inline void decode(const Format& format, const ConstPlanes& tile, int64_t cols, float* x,
                   int64_t x_stride) {
  const TrellisCode& code = *format.trellis;
  int8_t levels[kTrellisRows * kTrellisCols];
  for (int64_t column = 0; column < cols; column += kTrellisCols) {
    decode_trellis_block(code, tile[0], column / kTrellisCols, levels);
    for (int64_t r = 0; r < kTrellisRows; ++r) {
      const float scale = f16_to_f32(load<uint16_t>(tile[1] + 2 * r));
      for (int64_t c = 0; c < kTrellisCols; ++c)
        x[r * x_stride + column + c] = scale * static_cast<float>(levels[r * kTrellisCols + c]);
    }
  }
}

inline Format make(const TrellisCode& code) {
  const double bits = code.bits_per_weight();
  Format format;
  format.name = fmt::format("trellis{}", bits);
  format.description =
      fmt::format("{} bits by a 12-bit trellis, f16 scale per row; for rotated weights", bits);
  format.tile_rows = kTrellisRows;
  format.tile_cols = 0;
  format.planes = {{"codes", bits, 0}, {"scales", 0, 2 * kTrellisRows}};
  format.bits = code.bits_at(1);
  format.encode = encode;
  format.decode = decode;
  format.trellis = &code;
  format.grid.scale = ScaleType::kF32;  // of the kernels' strips; the file has f16
  return format;
}

inline std::vector<Format> formats() {
  std::vector<Format> all;
  for (const TrellisCode& code : trellis_codes()) all.push_back(make(code));
  return all;
}

}  // namespace quench::trellis_format
