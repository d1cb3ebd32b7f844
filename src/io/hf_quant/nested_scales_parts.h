// Double quantization as bitsandbytes does it (Dettmers et al. 2023, QLoRA, section 3): the scales
// of a matrix less their mean, in blocks of 256, as indices into a table of 256 levels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quench {

struct NestedScales {
  static constexpr int64_t kBlock = 256;
  std::vector<uint8_t> indices;  // [scales]
  std::vector<float> absmax;     // [ceil(scales / kBlock)]
  float offset = 0.0f;

  // In the library's order of roundings.
  float scale(int64_t i) const;
};

// The library's "dynamic" table for signed values, ascending from below -1 to 1: per decade 1e-6,
// 1e-5, ..., 1 the middles of 1, 2, ..., 64 equal parts of [0.1, 1] with both signs, and 0 and 1.
std::span<const float, 256> nested_levels();

// The nearest levels. Scales are finite.
NestedScales nest_scales(std::span<const float> scales);

}  // namespace quench
