// The small matrix product inside attention: rows of A (queries, or weights of keys) times a panel
// B (keys, or values) with a vector lane per output column. One order of additions per output: the
// units in ascending order, one fused multiply-add (or pair dot product) each, from zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quench {
namespace {

constexpr int64_t kTileRows = 6;

// A unit of A or a lane of B is 32 bits: an f32, or a pair of bf16.
struct GemmArgs {
  const uint32_t* a;      // [rows, units], rows a_stride apart
  const uint32_t* b;      // [units, lanes], units b_stride apart
  float* c;               // [rows, lanes], rows c_stride apart
  const float* keep;      // [rows]: c = c * keep + a b; null: c = a b
  const std::byte* next;  // stored panel of the same shape that is wanted after this one
  int64_t a_stride;
  int64_t b_stride;
  int64_t c_stride;
  int64_t rows;
  int64_t units;
  int64_t lanes;  // multiple of 16
};

// Rows [row, row + R), lanes [lane, lane + C * width). M is the multiply policy: Vec and mac().
// What is wanted next, kNext bytes of it per unit and lane, is asked for all the while, into the
// second-level cache: requests into the first, or all at once, take its few places (of a plain read
// by one thread of a Zen 4 decode reaches 81 % so, 43 % with requests into the first).
template <class M, int R, int C, int kNext>
inline void gemm_tile(const GemmArgs& g, int64_t row, int64_t lane) {
  using V = typename M::V;
  using F = typename V::F;
  F acc[R][C];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) acc[r][c] = V::zero();
  }
  const uint32_t* a = g.a + row * g.a_stride;
  const uint32_t* b = g.b + lane;
  const std::byte* next = g.next + lane * kNext * g.units;
  for (int64_t u = 0; u < g.units; ++u) {
    typename M::B panel[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) panel[c] = M::load(b + c * V::kWidth);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const typename M::A unit = M::broadcast(a + r * g.a_stride + u);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) acc[r][c] = M::mac(acc[r][c], unit, panel[c]);
    }
    constexpr int kStep = C * V::kWidth * kNext;
#pragma GCC unroll 4
    for (int i = 0; i < kStep; i += 64) __builtin_prefetch(next + i, 0, 2);
    next += kStep;
    b += g.b_stride;
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    float* to = g.c + (row + r) * g.c_stride + lane;
    const F keep = V::set1(g.keep != nullptr ? g.keep[row + r] : 0.0f);
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      F value = acc[r][c];
      if (g.keep != nullptr) value = V::fma(V::load(to + c * V::kWidth), keep, value);
      V::store(to + c * V::kWidth, value);
    }
  }
}

template <class M, int C, int kNext>
inline void gemm_rows(const GemmArgs& g, int64_t row, int64_t rows, int64_t lane) {
  switch (rows) {
    case 1:
      return gemm_tile<M, 1, C, kNext>(g, row, lane);
    case 2:
      return gemm_tile<M, 2, C, kNext>(g, row, lane);
    case 3:
      return gemm_tile<M, 3, C, kNext>(g, row, lane);
    case 4:
      return gemm_tile<M, 4, C, kNext>(g, row, lane);
    case 5:
      return gemm_tile<M, 5, C, kNext>(g, row, lane);
    default:
      return gemm_tile<M, 6, C, kNext>(g, row, lane);
  }
}

template <class M, int C, int kNext>
inline void gemm_lanes(const GemmArgs& g, int64_t lane) {
  // Even tiles: 7 rows are 4 and 3, not 6 and 1. The first row tile asks for all.
  const int64_t tiles = (g.rows + kTileRows - 1) / kTileRows;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t row = g.rows * tile / tiles;
    const int64_t rows = g.rows * (tile + 1) / tiles - row;
    if (tile == 0) {
      gemm_rows<M, C, kNext>(g, row, rows, lane);
    } else {
      gemm_rows<M, C, 0>(g, row, rows, lane);
    }
  }
}

template <class M, int kNext>
inline void gemm(const GemmArgs& g) {
  constexpr int64_t kWide = M::kTileVectors * M::V::kWidth;
  constexpr int kNarrow = 16 / M::V::kWidth;
  int64_t lane = 0;
  for (; lane + kWide <= g.lanes; lane += kWide) gemm_lanes<M, M::kTileVectors, kNext>(g, lane);
  for (; lane < g.lanes; lane += 16) gemm_lanes<M, kNarrow, kNext>(g, lane);
}

}  // namespace
}  // namespace quench
