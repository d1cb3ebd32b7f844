#include "formats/input_transform.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/hadamard.h"

namespace quench {
namespace {

std::vector<float> ramp(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i)
    x[static_cast<size_t>(i)] = static_cast<float>((i * 37 + 11) % 101) - 50.0f;
  return x;
}

// Orthonormal and its own inverse, also where the length is no power of two.
TEST(Hadamard, IsItsOwnInverse) {
  for (const int64_t n : {1, 2, 32, 96, 128, 224, 896, 4864}) {
    const std::vector<float> x = ramp(n);
    std::vector<float> y = x;
    const std::vector<float> hartley = hartley_matrix(odd_part(n));
    rotate(y, hartley);
    double before = 0.0;
    double after = 0.0;
    for (size_t i = 0; i < x.size(); ++i) {
      before += static_cast<double>(x[i]) * x[i];
      after += static_cast<double>(y[i]) * y[i];
    }
    EXPECT_NEAR(after / before, 1.0, 1e-5) << n;
    rotate(y, hartley);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 2e-4) << n << " at " << i;
  }
}

TEST(Hadamard, SpreadsOneColumnOverAll) {
  std::vector<float> x(896);
  x[5] = 1.0f;
  rotate(x, hartley_matrix(7));
  for (const float v : x) EXPECT_LT(std::fabs(v), 1.5f / std::sqrt(896.0f));
}

// A row of W' times T(x) is the row of W times x.
TEST(InputTransform, KeepsEveryProduct) {
  const int64_t n = 96;
  std::vector<int32_t> permutation;
  for (int64_t i = 0; i < n; ++i) permutation.push_back(static_cast<int32_t>(i * 7 % n));
  const std::vector<float> row = ramp(n);
  std::vector<float> x(row.rbegin(), row.rend());
  for (const InputTransform& transform :
       {InputTransform::permute(permutation), InputTransform::hadamard(n, 3)}) {
    std::vector<float> stored(row.size());
    std::vector<float> moved(row.size());
    std::vector<float> back(row.size());
    transform.row_to_stored(row, stored);
    transform.apply(x, moved);
    transform.row_to_original(stored, back);
    double wanted = 0.0;
    double found = 0.0;
    for (size_t i = 0; i < row.size(); ++i) {
      wanted += static_cast<double>(row[i]) * x[i];
      found += static_cast<double>(stored[i]) * moved[i];
      EXPECT_NEAR(back[i], row[i], 1e-4) << transform.name();
    }
    EXPECT_NEAR(found, wanted, 1e-5 * std::fabs(wanted) + 0.5) << transform.name();
  }
}

}  // namespace
}  // namespace quench
