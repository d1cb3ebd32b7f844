// The orthonormal rotation of a row of any length n = m * 2^a, m odd: the Sylvester Hadamard matrix
// of order 2^a on each of m blocks, then the Hartley matrix cas(2 pi i j / m) / sqrt(m) across the
// blocks (Bracewell 1983). Both are symmetric and their own inverse, and so is the rotation. It
// spreads an outlier of one column over all n. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quench {

// Kernels keep a column of that many blocks; every official shape has less (29568: 231).
constexpr int64_t kMaxOddPart = 512;
// n = odd_part(n) * a power of two. n > 0.
int64_t odd_part(int64_t n);
// [m, m] row-major, orthonormal; m odd. {1} for m = 1.
std::vector<float> hartley_matrix(int64_t m);
// In place. The additions of an output have one order, whatever machine and thread.
// hartley: hartley_matrix(odd_part(x.size())).
void rotate(std::span<float> x, std::span<const float> hartley);

}  // namespace quench
