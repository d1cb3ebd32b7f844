// How far a kernel may be from ref/, and why. Errors are norm over norm of one token's outputs; the
// same level's own variants (any m, any number of workers, a list or alone) get no tolerance at
// all: their bits are equal. Tables without state; any thread.
#pragma once

#include <cmath>
#include <cstdint>

#include "devices/matmul.h"

namespace quench {

// What a matmul kernel does to its inputs before it multiplies; the error that follows is computed
// from the inputs of the case.
struct ArithmeticError {
  // Integer codes of step max|x| / levels per block of this many columns; 0: floating point.
  int64_t block;
  int levels;
  // Columns further above the mean magnitude of their block are no integers. Ten percent more than
  // the kernels' own limit, which they apply to rounded numbers.
  double spike;
  // Floating point: the root mean square of the relative rounding error of an input.
  double relative;
};

// In the order of the enum Arithmetic.
constexpr ArithmeticError kArithmeticErrors[] = {
    // Inputs and weights as they are.
    {0, 0, 0.0, 0.0},
    // 8 significant bits, half to even: at most 2^-9 of the number (numbers just above a power of
    // two), 2^-9.3 on average.
    {0, 0, 0.0, 0x1p-9},
    // One step per token and 128 columns. A rounding error is uniform within half a step: step /
    // sqrt(12). Of normal values (the largest of 128 is about 2.8 sigma) that is 0.64 % of the
    // norm. Columns of more than 32 times the mean magnitude are no integers: else one of 1000
    // sigma would leave nothing of the 127 beside it.
    {128, 127, 1.1 * 32, 0.0},
};

constexpr const ArithmeticError& error_of(Arithmetic arithmetic) {
  return kArithmeticErrors[static_cast<size_t>(arithmetic)];
}

// Integer kernels also round the levels of a table that are no integers: nf4's to 1 / 127 of the
// largest, 0.6 % of a normal weight, but 5 % of one at the smallest level, which is all that counts
// where one input outweighs the others.
inline double rounded_level(double level, double largest) {
  return std::nearbyint(level / largest * 127.0) / 127.0 * largest;
}

// k additions in f32: each rounds a partial sum by at most 2^-24 of itself, and partial sums in an
// unlucky order are as large as the result: sqrt(k) roundings of independent sign.
inline double summation_rounding(int64_t k) { return 0x1p-24 * std::sqrt(static_cast<double>(k)); }

// The figures above are standard deviations of sums of many independent errors; a kernel that does
// what its arithmetic says stays below three of them, one that quantizes coarser does not.
constexpr double kHeadroom = 3.0;
// Below this a result is as good as zero: denormal inputs may be flushed.
constexpr double kNothing = 1e-30;

// Ops. Moves of bits (kv_store, gather_rows), one addition (add without a gate) and decisions
// (moe_route's order) are exact; gather of a matmul kernel decodes, and decode() defines the value
// of every code.
constexpr double kExact = 0.0;
// A few roundings of 2^-24 per element, and a sum of squares whose additions may come in any order.
constexpr double kRmsNormTolerance = 1e-6;
// Sine and cosine of an angle of up to 1.3e5, exactly reduced: some 1e-7 of 1.
constexpr double kRopeTableTolerance = 1e-6;
// Two products and an addition, fused or not.
constexpr double kRopeTolerance = 5e-7;
// One exponential within 2 units in the last place, one division, two products.
constexpr double kSiluTolerance = 1e-6;
constexpr double kAddGatedTolerance = 1e-6;
// Products and additions in the given order, fused or not.
constexpr double kCombineTolerance = 1e-6;
// Some 20 additions in sequence, each output a sum over the whole row.
constexpr double kTransformTolerance = 2e-6;
// The weights of the chosen experts: exponentials of f32 differences.
constexpr double kRouteTolerance = 2e-6;
// The absolute error of a score becomes the relative error of its weight: scores up to about 30,
// each a sum of head_dim products in f32 (1e-7 of the sum of magnitudes).
constexpr double kAttentionTolerance = 2e-5;
// With bf16 or int8 pages a level may round the queries and the weights to bf16 too: a score that
// is a sum of products with a standard deviation of 12 is then off by 12 * 2^-9 / sqrt(3), its
// weight by 1.4 %, the largest of a few dozen tokens by twice that.
constexpr double kRoundedAttentionTolerance = 0.03;

}  // namespace quench
