// The block layouts of GGUF's quantized types (ggml-org/ggml, src/ggml-common.h) as data: where the
// bits of a code lie, and how the scales of a block are written. A block is 32 or 256 neighbours of
// a row; its value i is scale[group] * (code - middle) - min[group], or scale * level[code].
// Pure constants and functions over the caller's memory; any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "base/bytes.h"
#include "base/float16.h"

namespace quench::ggml {

// `width` bits of every code: runs of `run` bytes in which byte l holds, from its lowest bit on,
// the parts of elements l, l + run, l + 2 run, ...
struct BitField {
  int offset = 0;
  int width = 0;  // 0: the type has no such field
  int run = 1;
};

enum class Scales {
  kOne,        // f16 scale
  kOneAndMin,  // f16 scale, f16 min, which is added
  kQ2K,        // 4-bit scales and mins per 16, f16 scale of each
  kQ3K,        // signed 6-bit scales per 16
  kQ45K,       // 6-bit scales and mins per 32
  kQ6K,        // signed 8-bit scales per 16
  kIq4Xs,      // signed 6-bit scales per 32
};

struct Layout {
  const char* name;
  const char* description;
  int bits;
  int weights;  // of a block
  int bytes;
  int group;     // weights under one scale
  BitField low;  // the lower bits of a code
  BitField high;
  Scales scales;
  int scale_offset;   // of the small scales of a block of 256
  int d_offset;       // of the f16 scale; the f16 min, if there is one, follows it
  bool table;         // codes are indices of table_format::kIq4
  bool flip = false;  // codes are stored as signed bytes

  constexpr int groups() const { return weights / group; }
  constexpr bool has_min() const {
    return scales == Scales::kOneAndMin || scales == Scales::kQ2K || scales == Scales::kQ45K;
  }
  // The code that stands for 0.
  constexpr int middle() const { return has_min() || table ? 0 : 1 << (bits - 1); }
  // Least and largest small scale; {1, 1} where there are none.
  constexpr int min_scale() const {
    return scales == Scales::kQ3K || scales == Scales::kIq4Xs  ? -32
           : scales == Scales::kQ6K                            ? -128
           : scales == Scales::kQ2K || scales == Scales::kQ45K ? 0
                                                               : 1;
  }
  constexpr int max_scale() const {
    return scales == Scales::kQ3K || scales == Scales::kIq4Xs ? 31
           : scales == Scales::kQ6K                           ? 127
           : scales == Scales::kQ2K                           ? 15
           : scales == Scales::kQ45K                          ? 63
                                                              : 1;
  }
};

constexpr int kMaxWeights = 256;
constexpr int kMaxGroups = 16;

// clang-format off
inline constexpr Layout kLayouts[] = {
    {"q4_0", "GGUF: 4-bit integers, f16 scale per 32",
     4, 32, 18, 32, {2, 4, 16}, {}, Scales::kOne, 0, 0, false},
    {"q4_1", "GGUF: 4-bit integers, f16 scale and minimum per 32",
     4, 32, 20, 32, {4, 4, 16}, {}, Scales::kOneAndMin, 0, 0, false},
    {"q5_0", "GGUF: 5-bit integers, f16 scale per 32",
     5, 32, 22, 32, {6, 4, 16}, {2, 1, 1}, Scales::kOne, 0, 0, false},
    {"q5_1", "GGUF: 5-bit integers, f16 scale and minimum per 32",
     5, 32, 24, 32, {8, 4, 16}, {4, 1, 1}, Scales::kOneAndMin, 0, 0, false},
    {"q8_0", "GGUF: 8-bit integers, f16 scale per 32",
     8, 32, 34, 32, {2, 8, 1}, {}, Scales::kOne, 0, 0, false, true},
    {"q2_k", "GGUF: 2-bit integers, 4-bit scale and minimum per 16, f16 of each per 256",
     2, 256, 84, 16, {16, 2, 32}, {}, Scales::kQ2K, 0, 80, false},
    {"q3_k", "GGUF: 3-bit integers, 6-bit scale per 16, f16 scale per 256",
     3, 256, 110, 16, {32, 2, 32}, {0, 1, 32}, Scales::kQ3K, 96, 108, false},
    {"q4_k", "GGUF: 4-bit integers, 6-bit scale and minimum per 32, f16 of each per 256",
     4, 256, 144, 32, {16, 4, 32}, {}, Scales::kQ45K, 4, 0, false},
    {"q5_k", "GGUF: 5-bit integers, 6-bit scale and minimum per 32, f16 of each per 256",
     5, 256, 176, 32, {48, 4, 32}, {16, 1, 32}, Scales::kQ45K, 4, 0, false},
    {"q6_k", "GGUF: 6-bit integers, 8-bit scale per 16, f16 scale per 256",
     6, 256, 210, 16, {0, 4, 64}, {128, 2, 32}, Scales::kQ6K, 192, 208, false},
    {"iq4_nl", "GGUF: 16 integer levels, f16 scale per 32",
     4, 32, 18, 32, {2, 4, 16}, {}, Scales::kOne, 0, 0, true},
    {"iq4_xs", "GGUF: 16 integer levels, 6-bit scale per 32, f16 scale per 256",
     4, 256, 136, 32, {8, 4, 16}, {}, Scales::kIq4Xs, 2, 0, true},
};
// clang-format on
inline constexpr int kNumLayouts = static_cast<int>(std::size(kLayouts));

// ---- codes ----

template <BitField kField, int kShift>
void get_bits(const std::byte* block, int weights, uint8_t* codes) {
  constexpr int kPerByte = 8 / kField.width;
  constexpr int kMask = (1 << kField.width) - 1;
  const std::byte* from = block + kField.offset;
  for (int i = 0; i < weights; i += kPerByte * kField.run, from += kField.run) {
    for (int part = 0; part < kPerByte; ++part) {
      for (int l = 0; l < kField.run; ++l) {
        const int bits = static_cast<int>(from[l]) >> (part * kField.width) & kMask;
        uint8_t& code = codes[i + part * kField.run + l];
        code = static_cast<uint8_t>(kShift == 0 ? bits : code | bits << kShift);
      }
    }
  }
}

template <BitField kField, int kShift>
void put_bits(const uint8_t* codes, int weights, std::byte* block) {
  constexpr int kPerByte = 8 / kField.width;
  constexpr int kMask = (1 << kField.width) - 1;
  std::byte* to = block + kField.offset;
  for (int i = 0; i < weights; i += kPerByte * kField.run, to += kField.run) {
    for (int l = 0; l < kField.run; ++l) {
      int byte = 0;
      for (int part = 0; part < kPerByte; ++part)
        byte |= (codes[i + part * kField.run + l] >> kShift & kMask) << (part * kField.width);
      to[l] = static_cast<std::byte>(byte);
    }
  }
}

template <int kIndex>
void get_codes(const std::byte* block, uint8_t* codes) {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  get_bits<kLayout.low, 0>(block, kLayout.weights, codes);
  if constexpr (kLayout.high.width > 0)
    get_bits<kLayout.high, kLayout.low.width>(block, kLayout.weights, codes);
  if constexpr (kLayout.flip) {
    for (int i = 0; i < kLayout.weights; ++i) codes[i] ^= 0x80;
  }
}

template <int kIndex>
void put_codes(const uint8_t* codes, std::byte* block) {
  constexpr const Layout& kLayout = kLayouts[kIndex];
  if constexpr (kLayout.flip) {
    for (int i = 0; i < kLayout.weights; ++i)
      block[kLayout.low.offset + i] = std::byte(codes[i] ^ 0x80);
    return;
  }
  put_bits<kLayout.low, 0>(codes, kLayout.weights, block);
  if constexpr (kLayout.high.width > 0)
    put_bits<kLayout.high, kLayout.low.width>(codes, kLayout.weights, block);
}

// ---- scales ----

// The scales of one block as stored: of group g scale d * scale[g], minimum dmin * min[g].
struct BlockScales {
  float d = 0.0f;
  float dmin = 0.0f;
  int scale[kMaxGroups] = {};
  int min[kMaxGroups] = {};
};

// Entry j of q4_k's and q5_k's twelve bytes: 6 bits of a scale and of a minimum each, those of the
// last four groups split between the upper bits of the first eight bytes and the last four.
inline void get_six_bits(const std::byte* b, int j, int& scale, int& min) {
  const auto at = [&](int i) { return static_cast<int>(b[i]); };
  if (j < 4) {
    scale = at(j) & 63;
    min = at(j + 4) & 63;
  } else {
    scale = (at(j + 4) & 15) | at(j - 4) >> 6 << 4;
    min = at(j + 4) >> 4 | at(j) >> 6 << 4;
  }
}
inline void put_six_bits(const BlockScales& s, std::byte* b) {
  for (int j = 0; j < 4; ++j) {
    b[j] = static_cast<std::byte>(s.scale[j] | s.scale[j + 4] >> 4 << 6);
    b[j + 4] = static_cast<std::byte>(s.min[j] | s.min[j + 4] >> 4 << 6);
    b[j + 8] = static_cast<std::byte>((s.scale[j + 4] & 15) | (s.min[j + 4] & 15) << 4);
  }
}

inline BlockScales get_scales(const Layout& layout, const std::byte* block) {
  BlockScales s;
  const std::byte* b = block + layout.scale_offset;
  const auto at = [&](int i) { return static_cast<int>(b[i]); };
  s.d = f16_to_f32(load<uint16_t>(block + layout.d_offset));
  if (layout.has_min()) s.dmin = f16_to_f32(load<uint16_t>(block + layout.d_offset + 2));
  switch (layout.scales) {
    case Scales::kOne:
      s.scale[0] = 1;
      break;
    case Scales::kOneAndMin:
      s.scale[0] = 1;
      s.min[0] = -1;
      break;
    case Scales::kQ2K:
      for (int j = 0; j < 16; ++j) {
        s.scale[j] = at(j) & 15;
        s.min[j] = at(j) >> 4;
      }
      break;
    case Scales::kQ3K:
      for (int j = 0; j < 16; ++j) {
        const int low = at(j % 8) >> (j / 8 * 4) & 15;
        s.scale[j] = (low | (at(8 + j % 4) >> (j / 4 * 2) & 3) << 4) - 32;
      }
      break;
    case Scales::kQ45K:
      for (int j = 0; j < 8; ++j) get_six_bits(b, j, s.scale[j], s.min[j]);
      break;
    case Scales::kQ6K:
      for (int j = 0; j < 16; ++j) s.scale[j] = static_cast<int8_t>(b[j]);
      break;
    case Scales::kIq4Xs:
      for (int j = 0; j < 8; ++j) {
        const int low = at(2 + j / 2) >> (j % 2 * 4) & 15;
        s.scale[j] = (low | (at(j / 4) >> (j % 4 * 2) & 3) << 4) - 32;
      }
      break;
  }
  return s;
}

inline void put_scales(const Layout& layout, const BlockScales& s, std::byte* block) {
  std::byte* b = block + layout.scale_offset;
  const auto add = [&](int i, int bits) { b[i] |= static_cast<std::byte>(bits); };
  switch (layout.scales) {
    case Scales::kOne:
    case Scales::kOneAndMin:
      break;
    case Scales::kQ2K:
      for (int j = 0; j < 16; ++j) b[j] = static_cast<std::byte>(s.scale[j] | s.min[j] << 4);
      break;
    case Scales::kQ3K:
      std::fill_n(b, 12, std::byte{0});
      for (int j = 0; j < 16; ++j) {
        const int stored = s.scale[j] + 32;
        add(j % 8, (stored & 15) << (j / 8 * 4));
        add(8 + j % 4, stored >> 4 << (j / 4 * 2));
      }
      break;
    case Scales::kQ45K:
      put_six_bits(s, b);
      break;
    case Scales::kQ6K:
      for (int j = 0; j < 16; ++j) b[j] = static_cast<std::byte>(s.scale[j]);
      break;
    case Scales::kIq4Xs:
      std::fill_n(b, 6, std::byte{0});
      for (int j = 0; j < 8; ++j) {
        const int stored = s.scale[j] + 32;
        add(2 + j / 2, (stored & 15) << (j % 2 * 4));
        add(j / 4, stored >> 4 << (j % 4 * 2));
      }
      break;
  }
  store<uint16_t>(block + layout.d_offset, f32_to_f16(s.d));
  if (layout.has_min()) store<uint16_t>(block + layout.d_offset + 2, f32_to_f16(s.dmin));
}

}  // namespace quench::ggml
