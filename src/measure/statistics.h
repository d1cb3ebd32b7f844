// Statistics for few and noisy measurements: medians with exact intervals, outliers that are
// flagged and never removed. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace quench {

// The functions below want at least one value; the order of the values does not matter.
double median(std::span<const double> values);
double mean(std::span<const double> values);
// With n - 1 in the denominator; 0 for one value.
double standard_deviation(std::span<const double> values);
// The nearest-rank percentile: the smallest value with at least `percent` % of the values at or
// below it. percent in (0, 100].
double percentile(std::span<const double> values, double percent);

// An interval between two order statistics, ranks counted from 1. `coverage` is the probability
// that it holds the true median, whatever the distribution.
struct MedianInterval {
  double low;
  double high;
  int64_t low_rank;
  int64_t high_rank;
  double coverage;
};
// The narrowest interval of ranks (r, n + 1 - r) whose coverage reaches `wanted`; where even the
// extremes do not reach it (n < 6 for 0.95), the extremes with the coverage they have.
MedianInterval median_interval(std::span<const double> values, double wanted = 0.95);
// P(the r-th smallest of n <= median <= the r-th largest) = 1 - 2 P(Binomial(n, 1/2) < r), exact
// for continuous distributions (David, Nagaraja, "Order Statistics", 3rd edition, section 7.1).
double median_coverage(int64_t n, int64_t rank);
// Two-sided p of so many values on one side of a supposed median, of n that are not equal to it.
double sign_test(int64_t n, int64_t on_one_side);
// Holm's step-down correction ("A simple sequentially rejective multiple test procedure", 1979):
// calling what has an adjusted p of at most alpha calls anything wrongly with at most alpha.
std::vector<double> holm_adjusted(std::span<const double> p);

// 0.6745 (x - median) / MAD (Iglewicz, Hoaglin, "How to Detect and Handle Outliers", 1993). Where
// the MAD is 0, (x - median) / (1.253314 mean absolute deviation) takes its place; where that is 0
// too, all scores are 0.
std::vector<double> modified_z_scores(std::span<const double> values);
constexpr double kOutlierScore = 3.5;
// Indices of values with |score| > kOutlierScore.
std::vector<int64_t> find_outliers(std::span<const double> values);

struct Summary {
  int64_t count = 0;  // 0: nothing was measured and nothing below means anything
  double median = 0.0;
  MedianInterval interval{};
  double mean = 0.0;
  double standard_deviation = 0.0;
  double min = 0.0;
  double max = 0.0;
  std::vector<int64_t> outliers;
  double mean_low = 0.0;  // 95 % interval of the mean, Student's t; the mean itself for one value
  double mean_high = 0.0;
  std::optional<double> median_without_outliers;  // null without outliers
};
Summary summarize(std::span<const double> values);

// The smallest difference between two means, as a share of them, that two samples of n values with
// this coefficient of variation show with 80 % power at the two-sided 5 % level:
// (t(0.975, 2n-2) + t(0.8, 2n-2)) sqrt(2/n) cv. About 1.3 cv for n = 10. Null for n < 2.
std::optional<double> smallest_difference(int64_t n, double variation);

// Whether values go up or down in their order (Mann 1945, Kendall 1938). tau is 1 when each value
// is larger than all before it, -1 when smaller. p_value: how probable a |tau| at least this large
// is without a trend, exact for values that are all different (equal ones count as neither).
struct Trend {
  double tau = 0.0;
  double p_value = 1.0;
};
Trend find_trend(std::span<const double> values);

// Correlation of each value with the one before it; 0 for less than three values or equal ones.
// n values are worth n (1 - r) / (1 + r) independent ones.
double lag1_autocorrelation(std::span<const double> values);

// The two-sided 95 % quantile of Student's t distribution. Between the table's rows the next lower
// number of degrees of freedom is taken, which makes intervals wider, never narrower.
double t_quantile_95(int64_t degrees_of_freedom);

// The part of a sample that belongs together, such as the tokens of one document.
struct Cluster {
  double sum = 0.0;
  int64_t count = 0;
};
struct ClusteredMean {
  double mean = 0.0;
  double low = 0.0;  // 95 % interval; the mean itself where there are fewer than two clusters
  double high = 0.0;
  int64_t num_clusters = 0;
};
// Mean over all members. The interval counts clusters, not members, as independent: the variance of
// the ratio estimator m = sum S_c / sum n_c is G/(G-1) sum (S_c - m n_c)^2 / N^2 (Cochran,
// "Sampling Techniques", 3rd edition, section 2.11), with t on G - 1 degrees of freedom.
ClusteredMean clustered_mean(std::span<const Cluster> clusters);

}  // namespace quench
