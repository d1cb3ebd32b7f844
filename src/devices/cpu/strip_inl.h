// The one packed layout of the CPU's fast matmul kernels, for decode and prefill, for every ISA
// level. A matrix [n, k] is cut into strips of 16 rows (n padded); in a strip the rows are
// interleaved, so that 64 bytes hold the same few columns of all 16 rows: a vector lane is an
// output, inputs are broadcast, and nothing is ever summed across lanes. A 16 x 64-byte run is also
// an AMX B tile as it stands. A thread reads whole strips front to back, several at once.
//
// Float strips: 64 bytes are 16 rows x 1 column of f32, or x 2 columns of bf16; f16 takes 32 bytes
// per column.
//
// Grid strips (formats with a Grid): runs, each rounded up to 64 bytes, in the order in which they
// are wanted. Scales: 16 numbers of the format's type per tile. Mins, of formats that have them: 16
// f16 per tile. Small scales, of formats that have them: 16 signed bytes per group. Small numbers
// of mins, or zero points: 16 bytes per group. Codes: per block of 32 columns the bit planes of the
// code, high part after low part (8 = 8; 6 = 4 + 2; 5 = 4 + 1; 4; 3 = 2 + 1; 2). "Quad" q of a
// block is columns 4q to 4q + 3 of 16 rows, byte 4r + c being column c of row r; a plane of b bits
// stores quads q = j * 8/b + i of its j-th 64 bytes at bits i * b of the byte. Trellis formats have
// their tiles' codes as the file has them (trellis_code.h).
#pragma once

#include "devices/matmul.h"
#include "formats/trellis_code.h"

namespace quench {
namespace {

constexpr int64_t kStripRows = 16;
constexpr int64_t kBlock = 32;       // columns per block of codes
constexpr int64_t kXBlock = 128;     // columns that share an activation scale
constexpr int64_t kQuad = 4;         // columns of a quad
constexpr int64_t kSumColumns = 16;  // the smallest unit
constexpr int64_t kSums = 16;        // of the input codes under an activation scale: QuantizedInput
constexpr int64_t kLineBytes = 64;   // of a cache line, and of 16 rows x 4 bytes

constexpr int64_t round_to_line(int64_t bytes) {
  return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}

struct GridLayout {
  int64_t columns;  // k
  int64_t unit;     // columns under one weight scale and one activation scale: 16, 32, 64, 128
  int64_t units;    // the last may be shorter
  int64_t x_units;  // units under one activation scale: 8, 4, 2, 1
  int scale_shift;  // 2^scale_shift units are under one of `scales`
  ScaleType scale_type;
  int64_t scale_bytes;  // of 16 rows
  // Where runs begin; 0: there is none.
  int64_t mins_begin;
  int64_t small_begin;
  int64_t zeros_begin;  // zero points, or small numbers of mins
  int64_t codes_begin;
  int64_t strip_bytes;

  // With a minimum per unit, be it that of a zero point.
  bool has_min() const { return mins_begin != 0 || zeros_begin != 0; }
};

// The tile is the row, 32, 64 or 128, or has small scales for 16, 32, 64 or 128 columns; k is a
// multiple of 32.
inline GridLayout grid_layout(const Format& format, int64_t k) {
  const Grid& grid = format.grid;
  GridLayout layout = {};
  layout.columns = k;
  const int64_t tile = format.tile_cols == 0 ? k : format.tile_cols;
  const int64_t group = grid.small_scales > 0 ? grid.small_scales : tile;
  // A row under one scale may be shorter than a unit.
  layout.unit = format.tile_cols == 0 || group > kXBlock ? kXBlock : group;
  layout.units = (k + layout.unit - 1) / layout.unit;
  layout.x_units = kXBlock / layout.unit;
  // Scales of small groups stand for a power of two of them, a row's for as many as there are.
  layout.scale_shift = format.tile_cols == 0 ? 62 : __builtin_ctzll(tile / layout.unit);
  layout.scale_type = grid.scale;
  layout.scale_bytes = kStripRows * (grid.scale == ScaleType::kF32 ? 4 : 2);
  const int64_t row_tiles = k / tile;
  const int64_t groups = k / group;
  int64_t end = round_to_line(row_tiles * layout.scale_bytes);
  const auto add_run = [&end](bool wanted, int64_t bytes) {
    const int64_t begin = end;
    if (wanted) end += round_to_line(bytes);
    return wanted ? begin : 0;
  };
  layout.mins_begin = add_run(grid.has_min, row_tiles * kStripRows * 2);
  layout.small_begin = add_run(grid.small_scales > 0, groups * kStripRows);
  layout.zeros_begin =
      add_run(format.zero_point || (grid.has_min && grid.small_scales > 0), groups * kStripRows);
  layout.codes_begin = end;
  layout.strip_bytes = end + (format.trellis != nullptr ? format.trellis->tile_bytes(k)
                                                        : k / kBlock * format.bits * kLineBytes);
  return layout;
}

inline int64_t float_strip_bytes(const Format& format, int64_t k) {
  return kStripRows * k * format.bits / 8;
}

// A column whose input stands far above its neighbours': as an integer of their scale it would take
// the digits of all others away (massive activations, as the down projections of the Qwen models
// get). It stays a float and is multiplied apart.
struct Spike {
  int32_t column;
  float value;
};
// Of the mean magnitude of its 128 columns. Then fewer than 128 / 32 are that large.
constexpr int kSpikeRatio = 32;
constexpr int64_t kMaxSpikes = kXBlock / kSpikeRatio;  // of 128 columns

// What a kernel makes of its input, in the scratch memory of the team.
struct QuantizedInput {
  int8_t* codes;  // [rows, k]
  float* scales;  // [rows, x_blocks] value = scale * code
  // [rows, x_blocks, kSums] sums of the codes of 128 columns: of all at 1, of halves at 2 and 3, of
  // quarters at 4 to 7, of eighths at 8 to 15; so a unit of any size finds its own.
  int32_t* sums;
  Spike* spikes;        // [rows, x_blocks * kMaxSpikes], each row's in ascending order
  int32_t* num_spikes;  // [rows]
  int64_t k;
  int64_t x_blocks;
};

inline int64_t quantized_input_bytes(int64_t rows, int64_t k) {
  const int64_t x_blocks = (k + kXBlock - 1) / kXBlock;
  return round_to_line(rows * k) + round_to_line(rows * x_blocks * 4) +
         rows * x_blocks * kSums * 4 +
         round_to_line(rows * x_blocks * kMaxSpikes * static_cast<int64_t>(sizeof(Spike))) +
         round_to_line(rows * 4);
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
  scratch += rows * input.x_blocks * kSums * 4;
  input.spikes = reinterpret_cast<Spike*>(scratch);
  scratch +=
      round_to_line(rows * input.x_blocks * kMaxSpikes * static_cast<int64_t>(sizeof(Spike)));
  input.num_spikes = reinterpret_cast<int32_t*>(scratch);
  return input;
}

}  // namespace
}  // namespace quench
