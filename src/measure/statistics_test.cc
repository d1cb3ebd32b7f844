#include "measure/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace quench {
namespace {

TEST(Statistics, MedianMeanDeviation) {
  EXPECT_EQ(median(std::vector<double>{3, 1, 2}), 2.0);
  EXPECT_EQ(median(std::vector<double>{4, 1, 3, 2}), 2.5);
  const std::vector<double> values = {2, 4, 4, 4, 5, 5, 7, 9};
  EXPECT_EQ(mean(values), 5.0);
  EXPECT_DOUBLE_EQ(standard_deviation(values), std::sqrt(32.0 / 7.0));
  EXPECT_EQ(standard_deviation(std::vector<double>{7}), 0.0);
}

TEST(Statistics, PercentileIsTheNearestRank) {
  const std::vector<double> values = {50, 15, 40, 20, 35};
  EXPECT_EQ(percentile(values, 5), 15.0);
  EXPECT_EQ(percentile(values, 30), 20.0);
  EXPECT_EQ(percentile(values, 40), 20.0);
  EXPECT_EQ(percentile(values, 50), 35.0);
  EXPECT_EQ(percentile(values, 100), 50.0);
  std::vector<double> thousand;
  for (int i = 1; i <= 1000; ++i) thousand.push_back(i);
  EXPECT_EQ(percentile(thousand, 99.9), 999.0);
  EXPECT_EQ(percentile(thousand, 99), 990.0);
}

TEST(Statistics, CoverageOfOrderStatistics) {
  // 1 - 2 (1 + ... ) / 2^n by hand.
  EXPECT_DOUBLE_EQ(median_coverage(3, 1), 0.75);
  EXPECT_DOUBLE_EQ(median_coverage(5, 1), 0.9375);
  EXPECT_DOUBLE_EQ(median_coverage(6, 1), 0.96875);
  EXPECT_DOUBLE_EQ(median_coverage(10, 2), 1.0 - 2.0 * 11.0 / 1024.0);  // 97.9 %
  EXPECT_DOUBLE_EQ(median_coverage(10, 3), 1.0 - 2.0 * 56.0 / 1024.0);  // 89.1 %
  EXPECT_DOUBLE_EQ(median_coverage(9, 2), 1.0 - 2.0 * 10.0 / 512.0);    // 96.1 %
}

TEST(Statistics, MedianIntervalTakesTheNarrowestThatCovers) {
  const std::vector<double> ten = {10, 1, 9, 2, 8, 3, 7, 4, 6, 5};
  const MedianInterval interval = median_interval(ten);
  EXPECT_EQ(interval.low_rank, 2);
  EXPECT_EQ(interval.high_rank, 9);
  EXPECT_EQ(interval.low, 2.0);
  EXPECT_EQ(interval.high, 9.0);
  EXPECT_NEAR(interval.coverage, 0.9785, 5e-5);

  const MedianInterval three = median_interval(std::vector<double>{5, 3, 4});
  EXPECT_EQ(three.low, 3.0);
  EXPECT_EQ(three.high, 5.0);
  EXPECT_DOUBLE_EQ(three.coverage, 0.75);

  const MedianInterval one = median_interval(std::vector<double>{5});
  EXPECT_EQ(one.low, 5.0);
  EXPECT_EQ(one.high, 5.0);
  EXPECT_EQ(one.coverage, 0.0);
}

TEST(Statistics, OutliersAreFlagged) {
  // Median 4, MAD 1: the score of 20 is 0.6745 * 16.
  const std::vector<double> values = {2, 3, 4, 5, 20};
  EXPECT_NEAR(modified_z_scores(values)[4], 10.792, 1e-9);
  EXPECT_EQ(find_outliers(values), std::vector<int64_t>{4});
  // MAD 0, mean absolute deviation 10 / 5 = 2: the score of 11 is 10 / (1.253314 * 2).
  const std::vector<double> flat = {1, 1, 1, 1, 11};
  EXPECT_NEAR(modified_z_scores(flat)[4], 3.98942, 1e-5);
  EXPECT_EQ(find_outliers(flat), std::vector<int64_t>{4});
  EXPECT_TRUE(find_outliers(std::vector<double>{1, 1, 1}).empty());
}

TEST(Statistics, SummaryOfNothingIsEmpty) {
  EXPECT_EQ(summarize({}).count, 0);
  const Summary summary = summarize(std::vector<double>{2, 3, 4, 5, 20});
  EXPECT_EQ(summary.count, 5);
  EXPECT_EQ(summary.median, 4.0);
  EXPECT_EQ(summary.min, 2.0);
  EXPECT_EQ(summary.max, 20.0);
  EXPECT_EQ(summary.outliers.size(), 1u);
}

TEST(Statistics, ClusteredMean) {
  // Clusters of sums 2, 8 with counts 2, 2: mean 2.5, residuals -3 and 3,
  // error sqrt(2 / 1 * 18) / 4 = 1.5, t(1) = 12.706.
  const std::vector<Cluster> two = {{2.0, 2}, {8.0, 2}};
  const ClusteredMean result = clustered_mean(two);
  EXPECT_EQ(result.mean, 2.5);
  EXPECT_NEAR(result.high - result.mean, 12.706 * 1.5, 1e-9);
  EXPECT_NEAR(result.mean - result.low, 12.706 * 1.5, 1e-9);
  EXPECT_EQ(result.num_clusters, 2);

  const std::vector<Cluster> one = {{6.0, 3}};
  EXPECT_EQ(clustered_mean(one).mean, 2.0);
  EXPECT_EQ(clustered_mean(one).low, 2.0);
  EXPECT_EQ(clustered_mean(one).high, 2.0);
}

TEST(Statistics, TQuantile) {
  EXPECT_EQ(t_quantile_95(9), 2.262);
  EXPECT_EQ(t_quantile_95(35), 2.042);  // wider than the true 2.030
  EXPECT_EQ(t_quantile_95(1000000), 1.962);
}

TEST(Statistics, SmallestDifferenceOfTenRuns) {
  // (2.101 + 0.862) sqrt(2 / 10) = 1.325.
  EXPECT_NEAR(*smallest_difference(10, 0.03), 1.325 * 0.03, 1e-4);
  EXPECT_NEAR(*smallest_difference(2, 1.0), 4.303 + 1.061, 0.01);
  EXPECT_FALSE(smallest_difference(1, 0.1));
  EXPECT_EQ(smallest_difference(10, 0.0), 0.0);
}

TEST(Statistics, MeanHasItsInterval) {
  const std::vector<double> values = {1.0, 2.0, 3.0, 4.0};
  const Summary summary = summarize(values);
  // t(3) = 3.182, s = 1.29099, n = 4.
  EXPECT_NEAR(summary.mean_high - 2.5, 3.182 * 1.29099 / 2.0, 1e-4);
  EXPECT_NEAR(summary.mean_low + summary.mean_high, 5.0, 1e-12);
  EXPECT_FALSE(summary.median_without_outliers);
  const Summary one = summarize(std::vector<double>{7.0});
  EXPECT_EQ(one.mean_low, 7.0);
  EXPECT_EQ(one.mean_high, 7.0);
}

TEST(Statistics, OutliersStayInAndAreSaidWithoutToo) {
  const std::vector<double> values = {10.0, 10.1, 9.9, 10.2, 9.8, 50.0};
  const Summary summary = summarize(values);
  EXPECT_EQ(summary.outliers, std::vector<int64_t>{5});
  EXPECT_EQ(summary.count, 6);
  EXPECT_EQ(summary.max, 50.0);
  EXPECT_EQ(summary.median_without_outliers, 10.0);
}

TEST(Statistics, TrendIsExact) {
  const std::vector<double> rising = {1.0, 2.0, 3.0, 4.0, 5.0};
  EXPECT_EQ(find_trend(rising).tau, 1.0);
  EXPECT_NEAR(find_trend(rising).p_value, 2.0 / 120.0, 1e-12);
  // Of the 24 orders of four values, those with at most one pair out of order, both ways: 1 + 3.
  EXPECT_NEAR(find_trend(std::vector<double>{1.0, 2.0, 4.0, 3.0}).p_value, 8.0 / 24.0, 1e-12);
  EXPECT_NEAR(find_trend(std::vector<double>{3.0, 1.0, 2.0}).p_value, 1.0, 1e-12);
  EXPECT_EQ(find_trend(std::vector<double>{5.0, 5.0, 5.0, 5.0}).tau, 0.0);
  EXPECT_EQ(find_trend(std::vector<double>{1.0, 2.0}).p_value, 1.0);
}

TEST(Statistics, TrendOfManyValuesIsNearlyNormal) {
  std::vector<double> values;
  for (int i = 0; i < 50; ++i) values.push_back((i * 37) % 101);
  const Trend exact = find_trend(values);
  values.push_back(median(values));  // one more takes the other way, and says nothing new
  const Trend normal = find_trend(values);
  EXPECT_NEAR(exact.p_value, normal.p_value, 0.03);
  for (int i = 0; i < 1000; ++i) values.push_back(2000.0 + i);
  EXPECT_LT(find_trend(values).p_value, 1e-6);
}

TEST(Statistics, Autocorrelation) {
  EXPECT_LT(lag1_autocorrelation(std::vector<double>{1.0, -1.0, 1.0, -1.0, 1.0, -1.0}), -0.7);
  EXPECT_GT(lag1_autocorrelation(std::vector<double>{1.0, 2.0, 3.0, 4.0, 5.0, 6.0}), 0.4);
  EXPECT_EQ(lag1_autocorrelation(std::vector<double>{2.0, 2.0, 2.0}), 0.0);
}

TEST(Statistics, SignTestAndHolm) {
  EXPECT_NEAR(sign_test(8, 8), 2.0 / 256.0, 1e-12);
  EXPECT_NEAR(sign_test(8, 0), 2.0 / 256.0, 1e-12);
  EXPECT_NEAR(sign_test(8, 7), 2.0 * 9.0 / 256.0, 1e-12);
  EXPECT_EQ(sign_test(8, 4), 1.0);
  EXPECT_EQ(sign_test(0, 0), 1.0);
  // The smallest counts for all of them, no later one for less than an earlier one.
  const std::vector<double> adjusted = holm_adjusted(std::vector<double>{0.04, 0.01, 0.03, 0.9});
  const double wanted[] = {0.09, 0.04, 0.09, 0.9};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(adjusted[i], wanted[i], 1e-12) << i;
  EXPECT_EQ(holm_adjusted(std::vector<double>{0.8, 0.7})[0], 1.0);
  EXPECT_TRUE(holm_adjusted({}).empty());
}

}  // namespace
}  // namespace quench
