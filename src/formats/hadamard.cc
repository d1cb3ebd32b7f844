#include "formats/hadamard.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace quench {

int64_t odd_part(int64_t n) {
  while (n % 2 == 0) n /= 2;
  return n;
}

std::vector<float> hartley_matrix(int64_t m) {
  std::vector<float> matrix(static_cast<size_t>(m * m));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < m; ++j) {
      const double angle =
          2.0 * std::numbers::pi * static_cast<double>(i * j % m) / static_cast<double>(m);
      matrix[static_cast<size_t>(i * m + j)] = static_cast<float>(
          (std::cos(angle) + std::sin(angle)) / std::sqrt(static_cast<double>(m)));
    }
  }
  return matrix;
}

void rotate(std::span<float> x, std::span<const float> hartley) {
  const auto n = static_cast<int64_t>(x.size());
  const int64_t m = odd_part(n);
  const int64_t block = n / m;
  const float norm = 1.0f / std::sqrt(static_cast<float>(block));
  for (int64_t begin = 0; begin < n; begin += block) {
    float* v = x.data() + begin;
    for (int64_t half = 1; half < block; half *= 2) {
      for (int64_t i = 0; i < block; i += 2 * half) {
        for (int64_t j = i; j < i + half; ++j) {
          const float a = v[j];
          const float b = v[j + half];
          v[j] = a + b;
          v[j + half] = a - b;
        }
      }
    }
    for (int64_t i = 0; i < block; ++i) v[i] *= norm;
  }
  if (m == 1) return;
  // Sixteen neighbouring positions of all blocks at a time.
  constexpr int64_t kLanes = 16;
  std::vector<float> in(static_cast<size_t>(m * kLanes));
  for (int64_t first = 0; first < block; first += kLanes) {
    const int64_t lanes = std::min(kLanes, block - first);
    for (int64_t j = 0; j < m; ++j) {
      for (int64_t l = 0; l < lanes; ++l) {
        in[static_cast<size_t>(j * kLanes + l)] = x[static_cast<size_t>(j * block + first + l)];
      }
    }
    for (int64_t i = 0; i < m; ++i) {
      float sum[kLanes] = {};
      for (int64_t j = 0; j < m; ++j) {
        const float factor = hartley[static_cast<size_t>(i * m + j)];
        for (int64_t l = 0; l < kLanes; ++l)
          sum[l] += factor * in[static_cast<size_t>(j * kLanes + l)];
      }
      for (int64_t l = 0; l < lanes; ++l) x[static_cast<size_t>(i * block + first + l)] = sum[l];
    }
  }
}

}  // namespace quench
