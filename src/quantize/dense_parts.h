// Dense linear algebra of the quantizers, on the device's own matmul kernels: what calibrated
// algorithms spend their time in. Matrices are row-major f32. Not for use inside Device::run(),
// but where it is said.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "devices/device.h"
#include "quantize/symmetric_parts.h"

namespace quench {

// Zeroed bytes that begin at a cache line.
class LineBuffer {
 public:
  LineBuffer() = default;
  explicit LineBuffer(int64_t size_bytes);
  std::byte* data() const { return data_; }

 private:
  std::unique_ptr<std::byte[]> storage_;
  std::byte* data_ = nullptr;
};

// A matrix B [n, k], packed once, to be multiplied by many: y = x B^T, rounded to the format.
class PackedMatrix {
 public:
  // Row r of B begins at b + r * stride. Any thread.
  PackedMatrix(const Device& device, const char* format, const float* b, int64_t n, int64_t k,
               int64_t stride);
  // Both halves of it.
  PackedMatrix(const Device& device, const char* format, const SymmetricMatrix& symmetric);
  // x [m, k], y [m, n]. By the worker that calls alone, with scratch_bytes(m) of its own in
  // context.scratch, or, inside Device::run(), by the whole team with the same arguments.
  void multiply(const OpContext& context, const float* x, int64_t m, float* y) const;
  int64_t scratch_bytes(int64_t m) const { return weight_.kernel->scratch_bytes(m, weight_.k); }
  int64_t n() const { return weight_.n; }
  int64_t k() const { return weight_.k; }

 private:
  void pack(const Device& device, const char* format, int64_t n, int64_t k,
            const std::function<void(int64_t row, float* to)>& read);

  LineBuffer storage_;
  Weight weight_;
};

// Runs `task(i)` for every i in [0, num_tasks), each on one worker as it becomes free: which one
// and when must not matter. `make_task()` makes each worker its own task, with its own buffers.
template <class MakeTask>
void run_tasks(Device& device, int64_t num_tasks, MakeTask make_task) {
  std::atomic<int64_t> next{0};
  device.run([&](const OpContext&) {
    auto task = make_task();
    for (int64_t i = next++; i < num_tasks; i = next++) task(i);
  });
}

// The upper triangular U with ones on its diagonal and the diagonal d > 0, [n], such that the
// matrix is U diag(d) U^T. The matrix is overwritten by U. False when it is not positive definite
// (it is then spoilt).
bool factor_udu(Device& device, SymmetricMatrix& matrix, std::span<float> d);

}  // namespace quench
