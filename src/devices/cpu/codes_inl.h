// Codes<V, kBits>: from the bit planes of a strip (strip_inl.h) to bytes, in registers. kLines
// lines hold kBlocks blocks; `quad` gives quad Q of them: four columns of V::kWidth rows, one
// unsigned byte each.
#pragma once

#include "devices/cpu/strip_inl.h"

namespace quench {
namespace {

// The kWidth bits of quad kQ in a plane, at bit kTo of every byte; the other bits are zero.
template <class V, int kWidth, int kQ, int kTo>
typename V::I plane_quad(const std::byte* plane) {
  constexpr int kPerByte = 8 / kWidth;
  constexpr int kFrom = kQ % kPerByte * kWidth;
  const typename V::I line = V::load_int(plane + kQ / kPerByte * kLineBytes);
  const typename V::I mask = V::set8(((1 << kWidth) - 1) << kTo);
  if constexpr (kFrom > kTo) {
    return V::bit_and(V::template right<kFrom - kTo>(line), mask);
  } else if constexpr (kFrom < kTo) {
    return V::bit_and(V::template left<kTo - kFrom>(line), mask);
  } else {
    return V::bit_and(line, mask);
  }
}

template <class V, int kLow, int kHigh>
struct PlaneCodes {
  static constexpr int kBlocks = 1;
  static constexpr int kLines = kLow + kHigh;
  static constexpr bool kWide = kLines > 6;  // needs dot8

  explicit PlaneCodes(const Format&) {}

  template <int kQ>
  typename V::I quad(const std::byte* block) const {
    if constexpr (kLow == 8) {
      return V::load_int(block + kQ * kLineBytes);
    } else if constexpr (kHigh == 0) {
      return plane_quad<V, kLow, kQ, 0>(block);
    } else {
      return V::bit_or(plane_quad<V, kLow, kQ, 0>(block),
                       plane_quad<V, kHigh, kQ, kLow>(block + kLow * kLineBytes));
    }
  }
  // The level that stands for 0 where the format stores no zeros.
  static constexpr int kZero = 1 << (kLines - 1);
  static float scale_factor() { return 1.0f; }
};

// Four-bit codes into a table: the levels as bytes around 128, the largest magnitude at 127.
template <class V>
struct TableCodes {
  static constexpr int kBlocks = 1;
  static constexpr int kLines = 4;
  static constexpr bool kWide = true;
  static constexpr int kZero = 128;

  explicit TableCodes(const Format& format) {
    const float* levels = format.grid.levels;
    float largest = 0.0f;
    for (int i = 0; i < 16; ++i) {
      const float magnitude = levels[i] < 0.0f ? -levels[i] : levels[i];
      largest = magnitude > largest ? magnitude : largest;
    }
    factor_ = largest / 127.0f;
    uint8_t bytes[16];
    for (int i = 0; i < 16; ++i) {
      const float scaled = levels[i] / factor_ + 128.0f;  // positive: + 0.5 and cut rounds
      bytes[i] = static_cast<uint8_t>(scaled + 0.5f);
    }
    table_ = V::table(bytes);
  }

  template <int kQ>
  typename V::I quad(const std::byte* block) const {
    return V::look_up(table_, plane_quad<V, 4, kQ, 0>(block));
  }
  float scale_factor() const { return factor_; }

 private:
  typename V::I table_;
  float factor_;
};

}  // namespace
}  // namespace quench
