// One instruction each. In assembler, because the compiler's intrinsics want the number of a tile
// as a literal in the source; volatile keeps their order.
#pragma once

#include "devices/cpu/amx/tile_config.h"

namespace quench {
namespace {

inline void configure_tiles(const TileConfig& config) {
  asm volatile("ldtilecfg %0" ::"m"(config));
}
inline void release_tiles() { asm volatile("tilerelease"); }

template <int kTile>
inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kTile>
inline void load_tile(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline void store_tile(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
}

// Sums of four products of signed inputs and unsigned weights.
template <int kSum, int kInput, int kWeight>
inline void dot_int8() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kInput), "i"(kWeight));
}
// Of two products, in f32: the even columns of a tile and the odd ones first apart, then together.
template <int kSum, int kInput, int kWeight>
inline void dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kInput), "i"(kWeight));
}

}  // namespace
}  // namespace quench
