// f32, f16, bf16: one number per weight, nothing shared. Sources: IEEE 754; bfloat16 is the upper
// half of a float.
#pragma once

#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "base/float16.h"
#include "formats/format.h"

namespace quench::float_format {

// Storage is uint16_t or float, the two functions convert one number.
template <class Storage, Storage (*from_f32)(float), float (*to_f32)(Storage)>
Format make(const char* name, const char* description) {
  Format format;
  format.name = name;
  format.description = description;
  format.tile_cols = 0;  // tiles of whole rows: one call decodes a row
  format.planes = {{"values", 8 * sizeof(Storage), 0}};
  format.bits = 8 * sizeof(Storage);
  format.encode = [](const Format&, const float* x, int64_t, int64_t cols, const Planes& tile) {
    for (int64_t i = 0; i < cols; ++i) {
      store<Storage>(tile[0] + i * static_cast<int64_t>(sizeof(Storage)), from_f32(x[i]));
    }
  };
  format.decode = [](const Format&, const ConstPlanes& tile, int64_t cols, float* x, int64_t) {
    for (int64_t i = 0; i < cols; ++i) {
      x[i] = to_f32(load<Storage>(tile[0] + i * static_cast<int64_t>(sizeof(Storage))));
    }
  };
  return format;
}

inline float same(float x) { return x; }

inline std::vector<Format> formats() {
  return {
      make<float, same, same>("f32", "IEEE single precision"),
      make<uint16_t, f32_to_f16, f16_to_f32>("f16", "IEEE half precision"),
      make<uint16_t, f32_to_bf16, bf16_to_f32>("bf16", "bfloat16: 8 exponent, 7 mantissa bits")};
}

}  // namespace quench::float_format
