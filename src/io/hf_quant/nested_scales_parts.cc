#include "io/hf_quant/nested_scales_parts.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/bytes.h"

namespace quench {
namespace {

constexpr int kDecades = 7;

std::array<float, 256> make_levels() {
  std::array<float, 256> levels{};
  size_t count = 0;
  double power = 1e-6;
  for (int decade = 0; decade < kDecades; ++decade, power *= 10.0) {
    const int parts = 1 << decade;
    for (int i = 0; i < parts; ++i) {
      const double middle = 0.1 + 0.9 * (i + 0.5) / parts;
      levels[count++] = static_cast<float>(power * middle);
      levels[count++] = -static_cast<float>(power * middle);
    }
  }
  levels[count++] = 0.0f;
  levels[count++] = 1.0f;
  std::sort(levels.begin(), levels.end());
  return levels;
}

}  // namespace

std::span<const float, 256> nested_levels() {
  static const std::array<float, 256> levels = make_levels();
  return levels;
}

float NestedScales::scale(int64_t i) const {
  return nested_levels()[indices[static_cast<size_t>(i)]] *
             absmax[static_cast<size_t>(i / kBlock)] +
         offset;
}

NestedScales nest_scales(std::span<const float> scales) {
  const std::span<const float, 256> levels = nested_levels();
  const auto count = static_cast<int64_t>(scales.size());
  NestedScales nested;
  double sum = 0.0;
  for (const float scale : scales) sum += scale;
  nested.offset = static_cast<float>(sum / static_cast<double>(std::max<int64_t>(count, 1)));
  nested.indices.resize(scales.size());
  nested.absmax.resize(static_cast<size_t>(ceil_div(count, NestedScales::kBlock)));
  for (int64_t i = 0; i < count; ++i) {
    float& largest = nested.absmax[static_cast<size_t>(i / NestedScales::kBlock)];
    largest = std::max(largest, std::fabs(scales[static_cast<size_t>(i)] - nested.offset));
  }
  for (int64_t i = 0; i < count; ++i) {
    const float largest = nested.absmax[static_cast<size_t>(i / NestedScales::kBlock)];
    const float rest = scales[static_cast<size_t>(i)] - nested.offset;
    const float value = largest > 0.0f ? rest / largest : 0.0f;
    const auto above = std::lower_bound(levels.begin(), levels.end(), value);
    auto nearest = above == levels.end() ? levels.end() - 1 : above;
    if (nearest != levels.begin() && value - *(nearest - 1) < *nearest - value) --nearest;
    nested.indices[static_cast<size_t>(i)] = static_cast<uint8_t>(nearest - levels.begin());
  }
  return nested;
}

}  // namespace quench
