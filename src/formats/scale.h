// How the scale of a tile is stored: the three types of checkpoints. Pure functions over the
// caller's memory; any thread.
#pragma once

#include "base/bytes.h"
#include "base/float16.h"
#include "formats/format.h"

namespace quench {

inline int scale_bytes(ScaleType type) { return type == ScaleType::kF32 ? 4 : 2; }

inline float get_scale(ScaleType type, const std::byte* in) {
  switch (type) {
    case ScaleType::kF16:
      return f16_to_f32(load<uint16_t>(in));
    case ScaleType::kBF16:
      return bf16_to_f32(load<uint16_t>(in));
    case ScaleType::kF32:
      break;
  }
  return load<float>(in);
}

inline void put_scale(ScaleType type, float scale, std::byte* out) {
  switch (type) {
    case ScaleType::kF16:
      return store<uint16_t>(out, f32_to_f16(scale));
    case ScaleType::kBF16:
      return store<uint16_t>(out, f32_to_bf16(scale));
    case ScaleType::kF32:
      return store<float>(out, scale);
  }
}

// The scale as it will be read back: rounding the codes against the stored value keeps the error
// within half a step.
inline float stored_scale(ScaleType type, float scale) {
  std::byte bytes[4] = {};
  put_scale(type, scale, bytes);
  return get_scale(type, bytes);
}

}  // namespace quench
