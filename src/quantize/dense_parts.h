// Dense linear algebra of the quantizers, on the device's own f32 matmul kernel: what calibrated
// algorithms spend their time in. Matrices are row-major f32. Not for use inside Device::run().
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "devices/device.h"

namespace quench {

// A matrix B [n, k], packed once, to be multiplied by many: y = x B^T.
class PackedMatrix {
 public:
  // Row r of B begins at b + r * stride.
  PackedMatrix(Device& device, const float* b, int64_t n, int64_t k, int64_t stride);
  // x [m, k], y [m, n]. By the worker that calls alone, or, inside Device::run(), by the whole team
  // with the same arguments.
  void multiply(const OpContext& context, const float* x, int64_t m, float* y) const;
  int64_t n() const { return weight_.n; }
  int64_t k() const { return weight_.k; }

 private:
  std::vector<std::byte> storage_;
  Weight weight_;
};

// moment [cols, cols] += X^T X for X [rows, cols].
void add_second_moment(Device& device, const float* x, int64_t rows, int64_t cols,
                       std::span<float> moment);

// The upper triangular U with ones on its diagonal and the diagonal d > 0 such that the symmetric
// matrix is U diag(d) U^T; `matrix` [n, n] is overwritten by U (below the diagonal: undefined).
// False when the matrix is not positive definite (it is then spoilt).
bool factor_udu(Device& device, std::span<float> matrix, int64_t n, std::span<float> d);

}  // namespace quench
