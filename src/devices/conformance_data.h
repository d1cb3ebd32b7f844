// What the judges share: arrays on a device with guards around them, inputs with everything that
// kernels trip over, a verdict per case. For conformance*.cc only.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "devices/conformance.h"

namespace quench::conformance {

// An array on a device between two guards. Reading back says whether somebody wrote beyond the
// ends.
template <class T>
class DeviceArray {
 public:
  DeviceArray(Device& device, const std::vector<T>& values)
      : device_(device), count_(values.size()) {
    std::vector<std::byte> bytes(2 * kGuard + count_ * sizeof(T), kMark);
    if (count_ > 0) std::memcpy(bytes.data() + kGuard, values.data(), count_ * sizeof(T));
    auto buffer = device.allocate(static_cast<int64_t>(bytes.size()));
    if (!buffer) throw std::bad_alloc();
    buffer_ = std::move(*buffer);
    device.upload(buffer_.data(), bytes.data(), buffer_.size_bytes());
  }
  // Filled with bytes 0xff: NaN where T is float, so that what nobody writes shows.
  DeviceArray(Device& device, int64_t count) : DeviceArray(device, unset(count)) {}

  T* data() const { return reinterpret_cast<T*>(buffer_.data() + kGuard); }
  std::vector<T> values() const {
    std::vector<T> result(count_);
    device_.download(reinterpret_cast<std::byte*>(result.data()), buffer_.data() + kGuard,
                     static_cast<int64_t>(count_ * sizeof(T)));
    return result;
  }
  bool guards_intact() const {
    std::byte guards[2 * kGuard];
    device_.download(guards, buffer_.data(), kGuard);
    device_.download(guards + kGuard, buffer_.data() + buffer_.size_bytes() - kGuard, kGuard);
    return std::all_of(guards, guards + 2 * kGuard, [](std::byte b) { return b == kMark; });
  }

 private:
  static constexpr int64_t kGuard = 256;  // keeps the alignment of the buffer
  static constexpr std::byte kMark{0xa5};
  static std::vector<T> unset(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    if (count > 0) std::memset(values.data(), 0xff, values.size() * sizeof(T));
    return values;
  }

  Device& device_;
  size_t count_;
  Buffer buffer_;
};

// `count` normal numbers with standard deviation `scale`, from (seed, index).
std::vector<float> normal_values(uint64_t seed, int64_t count, float scale);

// [rows, cols], rows in turn of seven kinds: normal; with spikes of 10 to 100 sigma; all zero;
// denormal; large; small, with a zero stretch; one spike alone.
std::vector<float> awkward_rows(uint64_t seed, int64_t rows, int64_t cols, float scale);

bool same_bits(const float* a, const float* b, int64_t count);

// Collects what is seen of one case: the token whose error is nearest to (or furthest beyond) its
// tolerance, and the first thing that is wrong.
class Verdict {
 public:
  Verdict(std::string name, std::string shape);

  // Compares `cols` outputs of one token with the reference's. `allowed` is an absolute norm.
  void compare(const float* y, const float* wanted, int64_t cols, double allowed,
               const std::string& where);
  void require(bool fine, const std::string& what);
  ConformanceResult take() { return std::move(result_); }

 private:
  ConformanceResult result_;
  double worst_ = -1.0;  // error / tolerance
};

double norm(const float* x, int64_t count);

}  // namespace quench::conformance
