// Codes of the trellis formats (formats/trellis_code.h), as Codes<V, kBits> for grid_matmul_inl.h:
// the bytes of a block go through GF(2) maps into indices, and those through a table of 64 levels.
// In a strip a block lies as in the file: 64 bytes are one byte of each of the 64 lanes, and the
// lanes are the four columns of sixteen rows that a quad is.
//
// Limit on AVX-512 with GFNI: a map is one instruction beside the ports of the byte shuffle and the
// dot product.
#pragma once

#include "devices/cpu/strip_inl.h"
#include "formats/trellis_code.h"

namespace quench {
namespace {

template <class V, int kCodeBits>
struct TrellisCodes {
  static constexpr int kBits = kCodeBits;
  static constexpr bool kWide = true;
  static constexpr int kZero = 128;  // levels are stored from 1 to 255

  explicit TrellisCodes(const Format& format) {
    const TrellisCode& code = *format.trellis;
    for (int q = 0; q < 8; ++q) {
      for (int i = first_byte(q); i <= last_byte(q); ++i) {
        // Bit b of byte i is bit `end - 1 - (8 i + b)` of the window.
        uint8_t rows[8] = {};
        for (int bit = 0; bit < 6; ++bit) {
          for (int b = 0; b < 8; ++b) {
            const int at = end_bit(q) - 1 - (8 * i + b);
            if (at < 0 || at >= kTrellisWindow) continue;
            rows[bit] = static_cast<uint8_t>(rows[bit] | (code.masks[bit] >> at & 1) << b);
          }
        }
        maps_[q][i - first_byte(q)] = V::linear_map(rows);
      }
    }
    uint8_t levels[64];
    for (int i = 0; i < 64; ++i) levels[i] = static_cast<uint8_t>(code.levels[i] + kZero);
    levels_ = V::table64(levels);
  }

  template <int kQ>
  typename V::I quad(const std::byte* block) const {
    typename V::I index = V::map_bits(maps_[kQ][0], byte_of_lanes<first_byte(kQ)>(block));
    if constexpr (last_byte(kQ) >= first_byte(kQ) + 1) {
      constexpr int kByte = first_byte(kQ) + 1;
      index = V::bit_xor(index, V::map_bits(maps_[kQ][1], byte_of_lanes<kByte>(block)));
    }
    if constexpr (last_byte(kQ) >= first_byte(kQ) + 2) {
      constexpr int kByte = first_byte(kQ) + 2;
      index = V::bit_xor(index, V::map_bits(maps_[kQ][2], byte_of_lanes<kByte>(block)));
    }
    return V::look_up64(levels_, index);
  }
  static float scale_factor() { return 1.0f; }

 private:
  static constexpr int end_bit(int q) { return kBits * (q + 1); }
  // The bytes that a window touches; those below 0 are the lane's before it.
  static constexpr int first_byte(int q) {
    return (end_bit(q) - kTrellisWindow + 8 * kBits) / 8 - kBits;
  }
  static constexpr int last_byte(int q) { return (end_bit(q) - 1) / 8; }

  template <int kByte>
  static typename V::I byte_of_lanes(const std::byte* block) {
    if constexpr (kByte >= 0) {
      return V::load_int(block + kByte * kLineBytes);
    } else {
      return V::load_previous_lanes(block + (kBits + kByte) * kLineBytes);
    }
  }

  typename V::BitMap maps_[8][3];
  typename V::Table64 levels_;
};

}  // namespace
}  // namespace quench
