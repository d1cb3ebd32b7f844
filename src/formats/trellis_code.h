// A trellis code for weights: every weight is named by the last 12 bits of a bit stream that grows
// by 2 or 3 bits per weight, so that a weight may choose among 64 levels although it adds so few
// (trellis coded quantization: Marcellin and Fischer 1990; with a computed code book: Tseng et
// al. 2024, QTIP). Here the 12-bit window goes through a binary linear map to a 6-bit index into a
// table of signed bytes: one GF(2) affine instruction per byte of the window and one byte shuffle
// decode 64 weights.
//
// A tile is 16 rows. Its lane l = 4 * row + j (j = 0..3) holds the weights of its row at the
// columns 4 m + j, m = 0, 1, ..., lowest bits first; byte i of lane l is byte i * 64 + l of the
// tile. Even m add step_bits[0] bits and odd ones step_bits[1], so that 2 and 3 make 2.5 per
// weight.
//
// A block is 32 columns of a tile: eight weights of each lane. The stream of a block runs down lane
// 0, then lane 1, ... lane 63, and is a ring: the window of the first weights of lane 0 reaches
// into lane 63. Nothing but the codes is stored.
//
// Pure functions; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace quench {

constexpr int kTrellisWindow = 12;  // bits
constexpr int kTrellisRows = 16;    // of a block
constexpr int kTrellisCols = 32;
constexpr int kTrellisLanes = 64;

struct TrellisCode {
  int step_bits[2];   // that a weight adds, of even and odd m
  uint16_t masks[6];  // index bit q = parity of masks[q] & window; the newest bit of the stream is
                      // bit 0 of the window
  float deviation;    // of the levels, for normal weights: a good scale is sigma / this
  int8_t levels[64];  // antisymmetric: levels[63 - i] = -levels[i]

  int index(uint32_t window) const;
  // Not inline: kernels of one instruction set call them.
  int bits_at(int m) const;
  int pair_bits() const;
  int64_t tile_bytes(int64_t cols) const;
  double bits_per_weight() const;
  // Rows have a multiple of so many columns: their blocks end with a whole byte.
  int64_t cols_step() const;
};

// The scale of a row [cols] as it will be read back from f16.
float trellis_row_scale(const TrellisCode& code, const float* row, int64_t cols);

// Of 2, 2.5 and 3 bits per weight.
std::span<const TrellisCode> trellis_codes();

// Block `block` of a tile's codes; levels: [16, 32] row-major.
void decode_trellis_block(const TrellisCode& code, const std::byte* tile, int64_t block,
                          int8_t* levels);

// One row of it: levels [32].
void decode_trellis_row(const TrellisCode& code, const std::byte* tile, int64_t block, int row,
                        int8_t* levels);

// One step of Viterbi's algorithm, what encoding spends its time in: from every state u (the last
// 12 - bits bits of a window) the windows w = u * 2^bits + c go on to the states w mod 2^(12-next),
// `next` being the bits that the step after this one adds.
//   cost_out[v] = min over w of cost_in[w >> bits] + metric[index[w]], with w mod states = v.
// Which w that was is found again on the way back, for the few states it leads through.
struct TrellisStepArgs {
  int bits;
  int next;
  const uint8_t* index;  // [4096] of every window; linear: index[w ^ x] = index[w] ^ index[x]
  const float* metric;   // [64] of every index
  const float* cost_in;  // [2^(12-bits)], readable for 16 more
  float* cost_out;       // [2^(12-next)], not cost_in
};
using TrellisStep = void (*)(const TrellisStepArgs&);
void trellis_step(const TrellisStepArgs& args);  // in plain C++

// Block `block` of a tile, other blocks left as they are: the codes whose levels have the least sum
// of importance[column] * (target - level)^2, by Viterbi's algorithm over the ring. targets: [16,
// 32] in units of a level; importance: [32], or null for 1. step: the device's, which gives the
// same bits.
void encode_trellis_block(const TrellisCode& code, const float* targets, const float* importance,
                          std::byte* tile, int64_t block, TrellisStep step = trellis_step);

}  // namespace quench
