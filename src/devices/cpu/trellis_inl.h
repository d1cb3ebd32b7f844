// Codes of the trellis formats (formats/trellis_code.h), as Codes for grid_matmul_inl.h: the bytes
// of a block go through GF(2) maps into indices, and those through a table of 64 levels. In a strip
// a tile's codes lie as in the file: 64 bytes are one byte of each of the 64 lanes, and the lanes
// are the four columns of sixteen rows that a quad is.
//
// Limit on AVX-512 with GFNI: a map is one instruction beside the ports of the byte shuffle and the
// dot product; a quad takes 2.25 maps on average at 2 bits, 2.6 at 2.5, 2.4 at 3.
#pragma once

#include "devices/cpu/strip_inl.h"

namespace quench {
namespace {

// kEven and kOdd: the bits that even and odd quads add. An odd sum of them fills no whole bytes in
// one block, so two are taken together.
template <class V, int kEven, int kOdd>
struct TrellisCodes {
  static constexpr int kPair = kEven + kOdd;
  static constexpr int kBlocks = kPair % 2 == 0 ? 1 : 2;
  static constexpr int kLines = kBlocks * kPair / 2;
  static constexpr bool kWide = true;
  static constexpr int kZero = 128;  // levels are stored from 1 to 255

  explicit TrellisCodes(const Format& format) {
    const TrellisCode& code = *format.trellis;
    for (int q = 0; q < kQuads; ++q) {
      for (int i = 0; i < num_parts(q); ++i) {
        uint8_t rows[8] = {};
        for (int at = 0; at < kTrellisWindow; ++at) {
          const Bit bit = window_bit(q, at);
          if (bit.line != part(q, i).line || bit.previous != part(q, i).previous) continue;
          for (int index_bit = 0; index_bit < 6; ++index_bit) {
            rows[index_bit] = static_cast<uint8_t>(rows[index_bit] |
                                                   (code.masks[index_bit] >> at & 1) << bit.bit);
          }
        }
        maps_[q][i] = V::linear_map(rows);
      }
    }
    uint8_t levels[64];
    for (int i = 0; i < 64; ++i) levels[i] = static_cast<uint8_t>(code.levels[i] + kZero);
    levels_ = V::table64(levels);
  }

  template <int kQ>
  typename V::I quad(const std::byte* block) const {
    typename V::I index = mapped<kQ, 0>(block);
    if constexpr (num_parts(kQ) > 1) index = V::bit_xor(index, mapped<kQ, 1>(block));
    if constexpr (num_parts(kQ) > 2) index = V::bit_xor(index, mapped<kQ, 2>(block));
    return V::look_up64(levels_, index);
  }
  static float scale_factor() { return 1.0f; }

 private:
  static constexpr int kQuads = 8 * kBlocks;
  static constexpr int kBlockBits = 4 * kPair;  // of a lane

  // Where a bit of a window lies: in a line of the lane itself or of the lane before it.
  struct Bit {
    bool previous;
    int line;
    int bit;
  };
  // Bit `at` of the window of quad q, 0 being the newest: below the block's first bit the stream
  // goes on at the block's end in the lane before.
  static constexpr Bit window_bit(int q, int at) {
    const int end = q / 2 * kPair + (q % 2 == 0 ? kEven : kPair);
    const int own = end - 1 - at;
    const bool previous = own < q / 8 * kBlockBits;
    const int place = previous ? own + kBlockBits : own;
    return {previous, place / 8, place % 8};
  }
  // The i-th line that a window touches, newest bits first.
  static constexpr Bit part(int q, int i) {
    Bit last = window_bit(q, 0);
    for (int at = 1; at < kTrellisWindow && i > 0; ++at) {
      const Bit next = window_bit(q, at);
      if (next.previous != last.previous || next.line != last.line) --i;
      last = next;
    }
    return last;
  }
  static constexpr int num_parts(int q) {
    int count = 1;
    for (int at = 1; at < kTrellisWindow; ++at) {
      const Bit a = window_bit(q, at - 1);
      const Bit b = window_bit(q, at);
      count += a.previous != b.previous || a.line != b.line ? 1 : 0;
    }
    return count;
  }

  template <int kQ, int kPart>
  typename V::I mapped(const std::byte* block) const {
    constexpr Bit kWhere = part(kQ, kPart);
    const std::byte* line = block + kWhere.line * kLineBytes;
    // From memory for each use, which costs no port of the arithmetic: the compiler would keep what
    // does not fit the vector registers in others, and spread it from there (5 to 8 % slower).
    const typename V::BitMap* map = maps_[kQ];
    asm("" : "+r"(map));
    return V::map_bits(map[kPart],
                       kWhere.previous ? V::load_previous_lanes(line) : V::load_int(line));
  }

  typename V::BitMap maps_[kQuads][3];
  typename V::Table64 levels_;
};

}  // namespace
}  // namespace quench
