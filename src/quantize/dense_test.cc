#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "formats/quantized_tensor.h"
#include "quantize/dense_parts.h"
#include "quantize/grid_parts.h"

namespace quench {
namespace {

std::vector<float> random_values(uint64_t seed, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(random_uniform(seed, i) * 2.0 - 1.0);
  return values;
}

TEST(Dense, SecondMomentIsTheSumOfOuterProducts) {
  const auto device = open_device("cpu", {});
  ASSERT_TRUE(device);
  const int64_t rows = 37;
  const int64_t cols = 96;
  const std::vector<float> x = random_values(1, rows * cols);
  std::vector<float> moment(static_cast<size_t>(cols * cols), 1.0f);
  add_second_moment(**device, x.data(), rows, cols, moment);
  for (int64_t i = 0; i < cols; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      double wanted = 1.0;
      for (int64_t r = 0; r < rows; ++r)
        wanted += static_cast<double>(x[static_cast<size_t>(r * cols + i)]) *
                  x[static_cast<size_t>(r * cols + j)];
      ASSERT_NEAR(moment[static_cast<size_t>(i * cols + j)], wanted, 1e-4);
    }
  }
}

TEST(Dense, FactorsAPositiveMatrix) {
  const auto device = open_device("cpu", {});
  ASSERT_TRUE(device);
  const int64_t n = 320;  // two and a half panels
  const std::vector<float> x = random_values(2, 2 * n * n);
  std::vector<float> matrix(static_cast<size_t>(n * n));
  add_second_moment(**device, x.data(), 2 * n, n, matrix);
  std::vector<float> u = matrix;
  std::vector<float> d(static_cast<size_t>(n));
  ASSERT_TRUE(factor_udu(**device, u, n, d));
  for (int64_t i = 0; i < n; i += 7) {
    for (int64_t j = i; j < n; j += 5) {
      double sum = 0.0;
      for (int64_t p = j; p < n; ++p) {
        const double a = p == i ? 1.0 : u[static_cast<size_t>(i * n + p)];
        const double b = p == j ? 1.0 : u[static_cast<size_t>(j * n + p)];
        sum += a * b * d[static_cast<size_t>(p)];
      }
      ASSERT_NEAR(sum, matrix[static_cast<size_t>(i * n + j)], 2e-2) << i << ", " << j;
    }
  }
  matrix[0] = -1.0f;
  EXPECT_FALSE(factor_udu(**device, matrix, n, d));
}

// The search never does worse than the format's own rounding, and no code is off by more than a
// step from the nearest.
TEST(GridSearch, IsAtLeastAsGoodAsRounding) {
  for (const Format& format : all_formats()) {
    if (!is_writable_grid(format)) continue;
    const int64_t cols = 128;
    const std::vector<float> x = random_values(3, cols);
    auto squared_error = [&](const Encoder* encoder) {
      QuantizedTensor tensor(format, 1, cols);
      if (encoder != nullptr) {
        encoder->encode(x.data(), 1, tensor.planes());
      } else {
        format.encode_rows(x.data(), 1, cols, tensor.planes());
      }
      std::vector<float> y(x.size());
      format.decode_rows(std::as_const(tensor).planes(), 1, cols, y.data());
      double sum = 0.0;
      for (size_t i = 0; i < x.size(); ++i) sum += std::pow(x[i] - y[i], 2.0);
      return sum;
    };
    const auto searched = make_search_encoder(format, cols, nullptr);
    EXPECT_LE(squared_error(searched.get()), squared_error(nullptr) * 1.02) << format.name;
  }
}

}  // namespace
}  // namespace quench
