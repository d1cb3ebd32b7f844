// The tile registers: a 2 x 2 block of sums (tiles 0 to 3), two tiles of inputs (4, 5: 16 tokens
// each) and two of weights (6, 7: 16 outputs each). A tile is 16 rows of 64 bytes: 16 f32 or int32
// of sums; of a token 64 int8 or 32 bf16; of 4 int8 or 2 bf16 columns, those of 16 outputs, as they
// lie in a strip (strip_inl.h).
//
// The registers belong to the thread, and its context is 8 KiB larger while they are in use: a
// kernel that calls begin_tiles() calls release_tiles() before it returns. Intel SDM volume 2,
// TDPBSUD, TDPBF16PS; volume 1, chapter 18.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quench {
namespace {

constexpr int64_t kTileRows16 = 16;
constexpr int64_t kTileRowBytes = 64;
constexpr int64_t kTileBytes = kTileRows16 * kTileRowBytes;

}  // namespace
}  // namespace quench

// Tests on machines without the registers compile the kernels with these in memory.
#ifdef QUENCH_EMULATED_TILES
#include "devices/cpu/amx/emulated_tiles.h"
#else
#include "devices/cpu/amx/real_tiles.h"
#endif

namespace quench {
namespace {

// From here on the input tiles have rows of `step_bytes` (16, 32 or 64), the weight tiles as many
// rows as that takes.
inline void begin_tiles(int64_t step_bytes) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    const bool is_input = tile == 4 || tile == 5;
    const bool is_weight = tile >= 6;
    config.row_bytes[tile] = static_cast<uint16_t>(is_input ? step_bytes : kTileRowBytes);
    config.rows[tile] = static_cast<uint8_t>(is_weight ? step_bytes / 4 : kTileRows16);
  }
  configure_tiles(config);
}

inline void zero_sums() {
  zero_tile<0>();
  zero_tile<1>();
  zero_tile<2>();
  zero_tile<3>();
}

// Tokens 0 to 15, and 16 to 31 with kTwo; rows are `stride` bytes apart.
template <bool kTwo>
inline void load_inputs(const void* from, int64_t stride) {
  load_tile<4>(from, stride);
  if constexpr (kTwo) load_tile<5>(static_cast<const std::byte*>(from) + 16 * stride, stride);
}

template <bool kTwo>
inline void load_weights(const void* first, const void* second, int64_t stride) {
  load_tile<6>(first, stride);
  if constexpr (kTwo) load_tile<7>(second, stride);
}

// Tile 2t + w is the sum of token tile t and weight tile w.
template <bool kTwoInputs, bool kTwoWeights>
inline void multiply_int8() {
  dot_int8<0, 4, 6>();
  if constexpr (kTwoWeights) dot_int8<1, 4, 7>();
  if constexpr (kTwoInputs) dot_int8<2, 5, 6>();
  if constexpr (kTwoInputs && kTwoWeights) dot_int8<3, 5, 7>();
}

template <bool kTwoInputs, bool kTwoWeights>
inline void multiply_bf16() {
  dot_bf16<0, 4, 6>();
  if constexpr (kTwoWeights) dot_bf16<1, 4, 7>();
  if constexpr (kTwoInputs) dot_bf16<2, 5, 6>();
  if constexpr (kTwoInputs && kTwoWeights) dot_bf16<3, 5, 7>();
}

// Sums in memory: 32 tokens of 32 outputs, 4 bytes each.
constexpr int64_t kSumStride = 2 * kTileRowBytes;

inline void store_sums(std::byte* to) {
  store_tile<0>(to, kSumStride);
  store_tile<1>(to + kTileRowBytes, kSumStride);
  store_tile<2>(to + 16 * kSumStride, kSumStride);
  store_tile<3>(to + 16 * kSumStride + kTileRowBytes, kSumStride);
}

inline void load_sums(const std::byte* from) {
  load_tile<0>(from, kSumStride);
  load_tile<1>(from + kTileRowBytes, kSumStride);
  load_tile<2>(from + 16 * kSumStride, kSumStride);
  load_tile<3>(from + 16 * kSumStride + kTileRowBytes, kSumStride);
}

}  // namespace
}  // namespace quench
