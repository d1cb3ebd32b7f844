// Second moments of the inputs of a matrix, X^T X, the most work of a calibration: one product for
// every token and pair of columns.
//
// Only the upper triangle of blocks is computed, in 8-bit integers: a column of X has one scale per
// 128 tokens, its largest magnitude over 127. Both factors are the same rounded X (but a number far
// above its column's, which the kernels multiply apart, is rounded in one of them only), so the
// result is the second moment of inputs that were rounded, and as positive as one is. The error
// of a rounding has a variance of scale^2 / 12, and 128 values with a largest magnitude of 127
// scales have a mean square of at least (127 scale)^2 / 128: the diagonal is off by at most 128 /
// (12 * 127^2) = 6.6e-4 of itself on average; what chance adds to all elements falls with the root
// of the number of tokens. Sums in integers are exact: every level with integer kernels gives the
// same bits.
//
// Functions of their arguments on the device's team; not for use inside Device::run().
#pragma once

#include <cstdint>

#include "devices/device.h"
#include "quantize/symmetric_parts.h"

namespace quench {

// moment += X^T X for X [rows, moment.n()].
void add_second_moment(Device& device, const float* x, int64_t rows, SymmetricMatrix& moment);

void scale_second_moment(Device& device, float factor, SymmetricMatrix& moment);

}  // namespace quench
