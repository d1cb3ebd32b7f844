#include "measure/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace quench {
namespace {

std::vector<double> sorted(std::span<const double> values) {
  QUENCH_CHECK(!values.empty(), "statistics of no values");
  std::vector<double> result(values.begin(), values.end());
  std::sort(result.begin(), result.end());
  return result;
}

double median_of_sorted(const std::vector<double>& values) {
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2.0;
}

}  // namespace

double median(std::span<const double> values) { return median_of_sorted(sorted(values)); }

double mean(std::span<const double> values) {
  QUENCH_CHECK(!values.empty(), "statistics of no values");
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_deviation(std::span<const double> values) {
  const double center = mean(values);
  if (values.size() < 2) return 0.0;
  double squares = 0.0;
  for (const double value : values) squares += (value - center) * (value - center);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double percentile(std::span<const double> values, double percent) {
  QUENCH_CHECK(!values.empty() && percent > 0.0 && percent <= 100.0, "percentile {} of {} values",
               percent, values.size());
  std::vector<double> copy(values.begin(), values.end());
  // 1e-9: 99.9 % of 1000 is the 999th, although 99.9 / 100 * 1000 is a little more in binary.
  const double rank = std::ceil(percent / 100.0 * static_cast<double>(copy.size()) - 1e-9);
  const auto index = static_cast<size_t>(std::max(rank, 1.0)) - 1;
  std::nth_element(copy.begin(), copy.begin() + static_cast<std::ptrdiff_t>(index), copy.end());
  return copy[index];
}

double median_coverage(int64_t n, int64_t rank) {
  // term = P(Binomial(n, 1/2) = i), from i = 0 upwards. It underflows from n = 1075 on; ranks near
  // 0 have no weight there.
  double term = std::pow(0.5, static_cast<double>(n));
  double below = 0.0;
  for (int64_t i = 0; i < rank; ++i) {
    below += term;
    term *= static_cast<double>(n - i) / static_cast<double>(i + 1);
  }
  return 1.0 - 2.0 * below;
}

double sign_test(int64_t n, int64_t on_one_side) {
  const int64_t more = std::max(on_one_side, n - on_one_side);
  // The interval from the r-th to the (n + 1 - r)-th value leaves out a median on which at least
  // n + 1 - r lie to one side.
  return 2 * more > n ? 1.0 - median_coverage(n, n + 1 - more) : 1.0;
}

std::vector<double> holm_adjusted(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double largest = 0.0;
  for (size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, p[order[i]] * static_cast<double>(order.size() - i));
    adjusted[order[i]] = std::min(largest, 1.0);
  }
  return adjusted;
}

MedianInterval median_interval(std::span<const double> values, double wanted) {
  const std::vector<double> order = sorted(values);
  const auto n = static_cast<int64_t>(order.size());
  int64_t rank = 1;
  // One value is an interval of coverage 0, which is the truth.
  while (rank + 1 <= n / 2 && median_coverage(n, rank + 1) >= wanted) ++rank;
  const double coverage = n < 2 ? 0.0 : median_coverage(n, rank);
  return {order[static_cast<size_t>(rank - 1)], order[static_cast<size_t>(n - rank)], rank,
          n + 1 - rank, coverage};
}

std::vector<double> modified_z_scores(std::span<const double> values) {
  const double center = median(values);
  std::vector<double> deviations;
  for (const double value : values) deviations.push_back(std::fabs(value - center));
  const double mad = median(deviations);
  const double unit = mad > 0.0 ? mad / 0.6745 : 1.253314 * mean(deviations);
  std::vector<double> scores;
  for (const double value : values) scores.push_back(unit > 0.0 ? (value - center) / unit : 0.0);
  return scores;
}

std::vector<int64_t> find_outliers(std::span<const double> values) {
  const std::vector<double> scores = modified_z_scores(values);
  std::vector<int64_t> result;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (std::fabs(scores[i]) > kOutlierScore) result.push_back(static_cast<int64_t>(i));
  }
  return result;
}

Summary summarize(std::span<const double> values) {
  if (values.empty()) return {};
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  Summary summary;
  summary.count = static_cast<int64_t>(values.size());
  summary.median = median(values);
  summary.interval = median_interval(values);
  summary.mean = mean(values);
  summary.standard_deviation = standard_deviation(values);
  summary.min = *low;
  summary.max = *high;
  summary.outliers = find_outliers(values);
  const auto n = static_cast<double>(values.size());
  const double half = values.size() < 2 ? 0.0
                                        : t_quantile_95(summary.count - 1) *
                                              summary.standard_deviation / std::sqrt(n);
  summary.mean_low = summary.mean - half;
  summary.mean_high = summary.mean + half;
  if (summary.outliers.empty()) return summary;
  std::vector<double> rest(values.begin(), values.end());
  for (auto it = summary.outliers.rbegin(); it != summary.outliers.rend(); ++it)
    rest.erase(rest.begin() + *it);
  summary.median_without_outliers = median(rest);
  return summary;
}

std::optional<double> smallest_difference(int64_t n, double variation) {
  if (n < 2) return std::nullopt;
  const auto freedom = static_cast<double>(2 * n - 2);
  // t(0.8, f) by the expansion of Abramowitz and Stegun 26.7.5; off by 0.003 for f = 2.
  constexpr double kZ = 0.8416;
  const double z3 = kZ * kZ * kZ;
  const double z5 = z3 * kZ * kZ;
  const double power_t = kZ + (z3 + kZ) / (4.0 * freedom) +
                         (5.0 * z5 + 16.0 * z3 + 3.0 * kZ) / (96.0 * freedom * freedom);
  return (t_quantile_95(2 * n - 2) + power_t) * std::sqrt(2.0 / static_cast<double>(n)) * variation;
}

Trend find_trend(std::span<const double> values) {
  constexpr size_t kExactTrend = 50;
  const size_t n = values.size();
  if (n < 3) return {};
  int64_t score = 0;  // pairs that rise minus pairs that fall
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i + 1; j < n; ++j)
      score += values[j] > values[i] ? 1 : values[j] < values[i] ? -1 : 0;
  }
  const auto pairs = static_cast<int64_t>(n * (n - 1) / 2);
  Trend trend = {static_cast<double>(score) / static_cast<double>(pairs), 0.0};
  if (n > kExactTrend) {
    // Kendall 1938: nearly normal, with variance n (n - 1) (2n + 5) / 18.
    const auto m = static_cast<double>(n);
    const double deviation = std::sqrt(m * (m - 1.0) * (2.0 * m + 5.0) / 18.0);
    const double z = std::max(std::fabs(static_cast<double>(score)) - 1.0, 0.0) / deviation;
    trend.p_value = std::erfc(z / std::sqrt(2.0));
    return trend;
  }
  // Without a trend every order is equally probable, and the number of falling pairs of n values is
  // that of n - 1 plus a number from 0 to n - 1, all equally probable.
  std::vector<double> falling = {1.0};
  for (size_t count = 2; count <= n; ++count) {
    std::vector<double> next(falling.size() + count - 1, 0.0);
    for (size_t i = 0; i < falling.size(); ++i) {
      for (size_t k = 0; k < count; ++k) next[i + k] += falling[i] / static_cast<double>(count);
    }
    falling = std::move(next);
  }
  for (size_t i = 0; i < falling.size(); ++i) {
    if (std::abs(pairs - 2 * static_cast<int64_t>(i)) >= std::abs(score))
      trend.p_value += falling[i];
  }
  trend.p_value = std::min(trend.p_value, 1.0);
  return trend;
}

double lag1_autocorrelation(std::span<const double> values) {
  if (values.size() < 3) return 0.0;
  const double center = mean(values);
  double products = 0.0;
  double squares = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    squares += (values[i] - center) * (values[i] - center);
    if (i > 0) products += (values[i] - center) * (values[i - 1] - center);
  }
  return squares > 0.0 ? products / squares : 0.0;
}

double t_quantile_95(int64_t degrees_of_freedom) {
  struct Row {
    int64_t from;
    double t;
  };
  // Any table of the t distribution, column 0.975.
  static constexpr std::array<Row, 34> kTable = {
      {{1, 12.706}, {2, 4.303},  {3, 3.182},  {4, 2.776},  {5, 2.571},   {6, 2.447},   {7, 2.365},
       {8, 2.306},  {9, 2.262},  {10, 2.228}, {11, 2.201}, {12, 2.179},  {13, 2.160},  {14, 2.145},
       {15, 2.131}, {16, 2.120}, {17, 2.110}, {18, 2.101}, {19, 2.093},  {20, 2.086},  {21, 2.080},
       {22, 2.074}, {23, 2.069}, {24, 2.064}, {25, 2.060}, {26, 2.056},  {27, 2.052},  {28, 2.048},
       {29, 2.045}, {30, 2.042}, {40, 2.021}, {60, 2.000}, {120, 1.980}, {1000, 1.962}}};
  QUENCH_CHECK(degrees_of_freedom >= 1, "{} degrees of freedom", degrees_of_freedom);
  double t = kTable[0].t;
  for (const Row& row : kTable) {
    if (row.from <= degrees_of_freedom) t = row.t;
  }
  return t;
}

ClusteredMean clustered_mean(std::span<const Cluster> clusters) {
  double sum = 0.0;
  int64_t count = 0;
  for (const Cluster& cluster : clusters) {
    sum += cluster.sum;
    count += cluster.count;
  }
  QUENCH_CHECK(count > 0, "the mean of no values");
  const auto groups = static_cast<int64_t>(clusters.size());
  const double center = sum / static_cast<double>(count);
  ClusteredMean result = {center, center, center, groups};
  if (groups < 2) return result;
  double squares = 0.0;
  for (const Cluster& cluster : clusters) {
    const double residual = cluster.sum - center * static_cast<double>(cluster.count);
    squares += residual * residual;
  }
  const auto g = static_cast<double>(groups);
  const double error = std::sqrt(g / (g - 1.0) * squares) / static_cast<double>(count);
  const double half = t_quantile_95(groups - 1) * error;
  result.low = center - half;
  result.high = center + half;
  return result;
}

}  // namespace quench
