#include "measure/analyze/rank_sum.h"

#include <algorithm>
#include <cmath>

#include "measure/statistics.h"

namespace quench {
namespace {

// P(U = u) for u = 0 .. a b without a difference: Mann and Whitney's recurrence (1947), as a
// product of polynomials (1 - x^(b + i)) / (1 - x^i), i = 1 .. a.
std::vector<double> null_distribution(size_t a, size_t b) {
  std::vector<double> counts(a * b + 1, 0.0);
  counts[0] = 1.0;
  for (size_t i = 1; i <= a; ++i) {
    for (size_t u = counts.size(); u-- > b + i;) counts[u] -= counts[u - b - i];
    for (size_t u = i; u < counts.size(); ++u) counts[u] += counts[u - i];
  }
  double sum = 0.0;
  for (const double count : counts) sum += count;
  for (double& count : counts) count /= sum;
  return counts;
}

std::vector<double> convolve(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<double> result(x.size() + y.size() - 1, 0.0);
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < y.size(); ++j) result[i + j] += x[i] * y[j];
  }
  return result;
}

// P(at least as far from the middle as u).
double two_sided(const std::vector<double>& distribution, double u) {
  const double middle = static_cast<double>(distribution.size() - 1) / 2.0;
  const double distance = std::fabs(u - middle) - 1e-9;
  double p = 0.0;
  for (size_t i = 0; i < distribution.size(); ++i) {
    if (std::fabs(static_cast<double>(i) - middle) >= distance) p += distribution[i];
  }
  return std::min(p, 1.0);
}

}  // namespace

RankTest rank_test(const std::vector<Stratum>& strata, double alpha) {
  RankTest test;
  std::vector<double> distribution = {1.0};
  std::vector<double> shifts;
  double u = 0.0;
  for (const Stratum& stratum : strata) {
    if (stratum.a.empty() || stratum.b.empty()) continue;
    distribution = convolve(distribution, null_distribution(stratum.a.size(), stratum.b.size()));
    for (const double a : stratum.a) {
      for (const double b : stratum.b) {
        u += a > b ? 1.0 : a == b ? 0.5 : 0.0;
        shifts.push_back(std::log(a / b));
      }
    }
  }
  if (shifts.empty()) return test;
  test.p = two_sided(distribution, u);
  test.least_p = two_sided(distribution, 0.0);
  std::sort(shifts.begin(), shifts.end());
  test.shift = median(shifts);
  // The k-th smallest and largest pairwise difference, P(U < k) <= alpha / 2.
  size_t k = 0;
  double below = 0.0;
  while (k + 1 < distribution.size() && below + distribution[k] <= alpha / 2.0)
    below += distribution[k++];
  const size_t index = k > 0 ? k - 1 : 0;
  test.low = shifts[std::min(index, shifts.size() - 1)];
  test.high = shifts[shifts.size() - 1 - std::min(index, shifts.size() - 1)];
  return test;
}

int64_t runs_needed(double p, int64_t strata) {
  for (int64_t n = 2; n < 1000; ++n) {
    // log of 2 / C(2n, n)^strata.
    const auto size = static_cast<double>(n);
    const double log_ways = std::lgamma(2.0 * size + 1.0) - 2.0 * std::lgamma(size + 1.0);
    if (std::log(2.0) - static_cast<double>(strata) * log_ways <= std::log(p)) return n;
  }
  return 1000;
}

}  // namespace quench
