// Format: how a matrix of numbers is stored. f32 and bf16 are formats as much as a 3-bit
// quantization is: there is no second type system for activations or KV.
//
// A matrix [rows, cols] is cut into tiles of tile_rows x tile_cols. Each tile lies in one or more
// planes (codes, scales, zeros); a plane is one contiguous array, its tiles in row-major order of
// the tile grid. This is the canonical order of files and of the reference; a kernel that wants
// another order makes it in its own pack().
//
// Formats know no device. The tables below live forever and may be read by any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace quench {

constexpr int kMaxPlanes = 4;

// Pointers to the same tile (or to the first tile of a matrix) in each plane.
using Planes = std::array<std::byte*, kMaxPlanes>;
using ConstPlanes = std::array<const std::byte*, kMaxPlanes>;

struct Plane {
  const char* name;        // "codes", "scales", "zeros"
  double bits_per_weight;  // a multiple of a half
  int bytes_per_tile;

  // Of a tile with so many weights.
  int64_t tile_bytes(int64_t weights) const {
    return static_cast<int64_t>(static_cast<double>(weights) * bits_per_weight) / 8 +
           bytes_per_tile;
  }
};

struct Format;
struct TrellisCode;

enum class ScaleType : uint8_t { kF16, kBF16, kF32 };  // scale.h

constexpr int kMaxGridGroups = 16;

// What a tile of a Grid has beside its codes.
struct GridScales {
  float scale = 0.0f;
  float min = 0.0f;  // with has_min
  uint8_t zero = 0;  // with zero points; else 2^(bits - 1), or 0 with levels or has_min
  // With small_scales, per group: small whole numbers that multiply scale and min.
  int8_t group_scale[kMaxGridGroups] = {};
  uint8_t group_min[kMaxGridGroups] = {};
};

// A format of tiles [1, cols] with values scale * (level[code] - zero) - min: all that an integer
// kernel needs to know of it. A tile is one group, under one scale, zero and min; or, with
// small_scales, several groups, whose scales and mins are the tile's times a small number each.
struct Grid {
  // One tile: codes [cols] and its scales. Null: not such a format.
  void (*read)(const Format& format, const ConstPlanes& tile, int64_t cols, uint8_t* codes,
               GridScales* scales) = nullptr;
  const float* levels = nullptr;      // [2^bits]; null: level[code] = code
  ScaleType scale = ScaleType::kF16;  // what `read` takes the scale from, without rounding
  bool has_min = false;               // the tile's is an f16
  int64_t small_scales = 0;           // columns of a group with a small scale; 0: none
  // The inverse of `read`, for quantizers that choose codes themselves. Null: none does.
  void (*write)(const Format& format, const uint8_t* codes, int64_t cols, const GridScales& scales,
                const Planes& tile) = nullptr;

  // Whether a tile is one group under one scale, without a minimum.
  bool is_plain() const { return read != nullptr && !has_min && small_scales == 0; }
};

struct Format {
  std::string name;         // "bf16", "int4_g128"
  std::string description;  // one line for `quench list formats`
  int64_t tile_rows = 1;
  int64_t tile_cols = 1;  // 0: the tile spans the whole row
  std::vector<Plane> planes;
  int bits = 32;            // of one code
  bool zero_point = false;  // codes are offset by a stored zero instead of a fixed middle

  // Encodes one tile. x: [tile_rows, cols] f32, rows `x_stride` apart; cols is tile_cols, or the
  // row length when tile_cols is 0. Values must be finite. Null: the format is only read.
  void (*encode)(const Format& format, const float* x, int64_t x_stride, int64_t cols,
                 const Planes& tile) = nullptr;
  // The same for neighbours of one row, sooner: x [tiles * tile_cols], tile_rows 1. Null: none.
  void (*encode_run)(const Format& format, const float* x, int64_t tiles,
                     const Planes& first) = nullptr;
  // Decodes one tile to x: [tile_rows, cols] f32, rows `x_stride` apart. The exact value of every
  // code is defined here.
  void (*decode)(const Format& format, const ConstPlanes& tile, int64_t cols, float* x,
                 int64_t x_stride);

  Grid grid;
  const TrellisCode* trellis = nullptr;  // the code of a trellis format (trellis_code.h)

  int64_t tile_width(int64_t cols) const { return tile_cols == 0 ? cols : tile_cols; }
  // True when a [rows, cols] matrix divides into whole tiles with whole bytes per plane.
  bool fits(int64_t rows, int64_t cols) const;
  // Bytes of plane `p` for a [rows, cols] matrix that fits.
  int64_t plane_bytes(int p, int64_t rows, int64_t cols) const;
  int64_t matrix_bytes(int64_t rows, int64_t cols) const;
  double bits_per_weight(int64_t rows, int64_t cols) const;

  // The tiles that begin at (row, 0); row is a multiple of tile_rows.
  Planes row_planes(const Planes& matrix, int64_t row, int64_t cols) const;
  ConstPlanes row_planes(const ConstPlanes& matrix, int64_t row, int64_t cols) const;

  // Whole rows: x is [rows, cols] f32 contiguous, `first` the planes at the first row. rows is a
  // multiple of tile_rows.
  void encode_rows(const float* x, int64_t rows, int64_t cols, const Planes& first) const;
  void decode_rows(const ConstPlanes& first, int64_t rows, int64_t cols, float* x) const;
};

// Every format, in the order of the headers' names; generated from formats/*.h by the build.
std::span<const Format> all_formats();
// nullptr when there is none of that name. Aliases ("int4" for "int4_g128") are resolved here.
const Format* find_format(std::string_view name);
Result<const Format*> require_format(std::string_view name);
// The same, of those that weights can be encoded in.
Result<const Format*> require_encoder(std::string_view name);

}  // namespace quench
