// The same registers in memory, after the pseudocode of the Intel SDM: for tests on machines
// without them.
#pragma once

#include "devices/cpu/amx/tile_config.h"

namespace quench {
namespace {

struct EmulatedTiles {
  TileConfig config;
  alignas(64) std::byte data[8][kTileRows16][kTileRowBytes];
};
thread_local EmulatedTiles tiles;

inline void configure_tiles(const TileConfig& config) {
  tiles.config = config;
  __builtin_memset(tiles.data, 0, sizeof(tiles.data));
}
// The real ones fault when used after this; these read as garbage.
inline void release_tiles() {
  tiles.config = {};
  __builtin_memset(tiles.data, 0xff, sizeof(tiles.data));
}

template <int kTile>
inline void zero_tile() {
  __builtin_memset(tiles.data[kTile], 0, sizeof(tiles.data[kTile]));
}
template <int kTile>
inline void load_tile(const void* from, int64_t stride) {
  zero_tile<kTile>();
  for (int64_t r = 0; r < tiles.config.rows[kTile]; ++r) {
    __builtin_memcpy(tiles.data[kTile][r], static_cast<const std::byte*>(from) + r * stride,
                     tiles.config.row_bytes[kTile]);
  }
}
template <int kTile>
inline void store_tile(void* to, int64_t stride) {
  for (int64_t r = 0; r < tiles.config.rows[kTile]; ++r) {
    __builtin_memcpy(static_cast<std::byte*>(to) + r * stride, tiles.data[kTile][r],
                     tiles.config.row_bytes[kTile]);
  }
}

template <class T>
T tile_element(int tile, int64_t row, int64_t index) {
  T value;
  __builtin_memcpy(&value, tiles.data[tile][row] + index * static_cast<int64_t>(sizeof(T)),
                   sizeof(T));
  return value;
}
template <class T>
void set_tile_element(int tile, int64_t row, int64_t index, T value) {
  __builtin_memcpy(tiles.data[tile][row] + index * static_cast<int64_t>(sizeof(T)), &value,
                   sizeof(T));
}

template <int kSum, int kInput, int kWeight>
inline void dot_int8() {
  const int64_t units = tiles.config.row_bytes[kInput] / 4;
  for (int64_t m = 0; m < tiles.config.rows[kSum]; ++m) {
    for (int64_t n = 0; n < tiles.config.row_bytes[kSum] / 4; ++n) {
      auto sum = tile_element<int32_t>(kSum, m, n);
      for (int64_t k = 0; k < units; ++k) {
        for (int64_t i = 0; i < 4; ++i) {
          sum += tile_element<int8_t>(kInput, m, 4 * k + i) *
                 tile_element<uint8_t>(kWeight, k, 4 * n + i);
        }
      }
      set_tile_element(kSum, m, n, sum);
    }
  }
}

inline float widened(uint16_t bf16) {
  const uint32_t bits = static_cast<uint32_t>(bf16) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

// Denormals, which the registers flush, are left as they are.
template <int kSum, int kInput, int kWeight>
inline void dot_bf16() {
  const int64_t units = tiles.config.row_bytes[kInput] / 4;
  for (int64_t m = 0; m < tiles.config.rows[kSum]; ++m) {
    for (int64_t n = 0; n < tiles.config.row_bytes[kSum] / 4; ++n) {
      float parts[2] = {};
      for (int64_t k = 0; k < units; ++k) {
        for (int64_t i = 0; i < 2; ++i) {
          parts[i] =
              __builtin_fmaf(widened(tile_element<uint16_t>(kInput, m, 2 * k + i)),
                             widened(tile_element<uint16_t>(kWeight, k, 2 * n + i)), parts[i]);
        }
      }
      set_tile_element(kSum, m, n, tile_element<float>(kSum, m, n) + (parts[0] + parts[1]));
    }
  }
}

}  // namespace
}  // namespace quench
