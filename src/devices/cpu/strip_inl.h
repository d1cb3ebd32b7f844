// The one packed layout of the CPU's fast matmul kernels, for decode and prefill, for every ISA
// level. A matrix [n, k] is cut into strips of 16 rows (n padded); in a strip the rows are
// interleaved, so that 64 bytes hold the same few columns of all 16 rows: a vector lane is an
// output, inputs are broadcast, and nothing is ever summed across lanes. A 16 x 64-byte run is also
// an AMX B tile as it stands. A thread reads whole strips front to back, several at once.
//
// Float strips: 64 bytes are 16 rows x 1 column of f32, or x 2 columns of bf16; f16 takes 32 bytes
// per column.
//
// Grid strips (formats with a Grid): three runs, each rounded up to 64 bytes, in the order in which
// they are wanted. Scales: 16 f16 per group of columns, or 16 f32 when the group is the row. Zeros,
// with zero points: 16 bytes per group. Codes: per block of 32 columns the bit planes of the code,
// high part after low part (8 = 8; 6 = 4 + 2; 5 = 4 + 1; 4; 3 = 2 + 1; 2). "Quad" q of a block is
// columns 4q to 4q + 3 of 16 rows, byte 4r + c being column c of row r; a plane of b bits stores
// quads q = j * 8/b + i of its j-th 64 bytes at bits i * b of the byte.
#pragma once

#include "devices/matmul.h"

namespace quench {
namespace {

constexpr int64_t kStripRows = 16;
constexpr int64_t kBlock = 32;      // columns per block of codes
constexpr int64_t kXBlock = 128;    // columns that share an activation scale
constexpr int64_t kLineBytes = 64;  // of a cache line, and of 16 rows x 4 bytes

constexpr int64_t round_to_line(int64_t bytes) {
  return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}

struct GridLayout {
  int64_t blocks;       // of 32 columns
  int64_t unit_blocks;  // per unit: columns under one weight scale and one activation scale
  int64_t units;
  int64_t scale_bytes;  // of 16 rows and one group
  ScaleType scale_type;
  int64_t scale_step;  // bytes from the scales of a unit to those of the next: 0 if rows have one
  int64_t zeros_begin;
  int64_t codes_begin;
  int64_t strip_bytes;
};

// The group is the row, 32, 64 or 128; k is a multiple of 32.
inline GridLayout grid_layout(const Format& format, int64_t k) {
  GridLayout layout;
  layout.blocks = k / kBlock;
  const bool row_scales = format.tile_cols == 0;
  const int64_t unit = row_scales ? kXBlock : format.tile_cols;
  layout.unit_blocks = unit / kBlock;
  layout.units = (k + unit - 1) / unit;
  layout.scale_type = format.grid.scale;
  layout.scale_bytes = kStripRows * (layout.scale_type == ScaleType::kF32 ? 4 : 2);
  layout.scale_step = row_scales ? 0 : layout.scale_bytes;
  const int64_t groups = row_scales ? 1 : layout.units;
  layout.zeros_begin = round_to_line(groups * layout.scale_bytes);
  layout.codes_begin =
      layout.zeros_begin + (format.zero_point ? round_to_line(groups * kStripRows) : 0);
  layout.strip_bytes = layout.codes_begin + layout.blocks * format.bits * kLineBytes;
  return layout;
}

inline int64_t float_strip_bytes(const Format& format, int64_t k) {
  return kStripRows * k * format.bits / 8;
}

// What a kernel makes of its input, in the scratch memory of the team.
struct QuantizedInput {
  int8_t* codes;  // [rows, k]
  float* scales;  // [rows, x_blocks] value = scale * code
  int32_t* sums;  // [rows, k / 32] of the codes of each block
  int64_t k;
  int64_t x_blocks;
};

inline int64_t quantized_input_bytes(int64_t rows, int64_t k) {
  const int64_t x_blocks = (k + kXBlock - 1) / kXBlock;
  return round_to_line(rows * k) + round_to_line(rows * x_blocks * 4) +
         round_to_line(rows * (k / kBlock) * 4);
}

inline QuantizedInput quantized_input(std::byte* scratch, int64_t rows, int64_t k) {
  QuantizedInput input;
  input.k = k;
  input.x_blocks = (k + kXBlock - 1) / kXBlock;
  input.codes = reinterpret_cast<int8_t*>(scratch);
  scratch += round_to_line(rows * k);
  input.scales = reinterpret_cast<float*>(scratch);
  scratch += round_to_line(rows * input.x_blocks * 4);
  input.sums = reinterpret_cast<int32_t*>(scratch);
  return input;
}

}  // namespace
}  // namespace quench
