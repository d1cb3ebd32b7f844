#include "measure/analyze/pairs.h"

#include <algorithm>
#include <cmath>

#include "measure/statistics.h"

namespace quench {
namespace {

constexpr double kPower = 0.9;
constexpr double kMadToSd = 1.4826;  // of a normal distribution
// Ratios beyond this are taken for no measurement at all.
constexpr double kLargestDifference = 100.0;

// P(Binomial(n, p) >= k).
double upper_tail(int64_t n, int64_t k, double p) {
  if (p >= 1.0) return 1.0;
  const auto count = static_cast<double>(n);
  double sum = 0.0;
  for (int64_t i = k; i <= n; ++i) {
    const auto x = static_cast<double>(i);
    sum += std::exp(std::lgamma(count + 1.0) - std::lgamma(x + 1.0) - std::lgamma(count - x + 1.0) +
                    x * std::log(p) + (count - x) * std::log1p(-p));
  }
  return std::min(sum, 1.0);
}

// The fewest pairs won of n that the sign test calls a difference; more than n: none are enough.
int64_t wins_wanted(int64_t n, double alpha) {
  int64_t wins = n + 1;
  // 1 - coverage is the two-sided p of n + 1 - rank wins.
  while (wins - 1 > n / 2 && 1.0 - median_coverage(n, n + 2 - wins) <= alpha) --wins;
  return wins;
}

double power(const PairSpread& spread, double difference, int64_t n, double alpha) {
  const int64_t wins = wins_wanted(n, alpha);
  if (wins > n) return 0.0;
  const double z = spread.log_sd > 0.0 ? std::log1p(difference) / spread.log_sd : HUGE_VAL;
  const double wins_share = 0.5 * std::erfc(-z / std::sqrt(2.0));
  return upper_tail(n, wins,
                    (1.0 - spread.outlier_share) * wins_share + 0.5 * spread.outlier_share);
}

}  // namespace

std::vector<double> Pairs::ratios() const {
  std::vector<double> result;
  for (size_t i = 0; i < count(); ++i) result.push_back(b[i] / a[i]);
  return result;
}

Result<void> continue_pairs(const Turns& turns, const Arm& a, const Arm& b, Pairs& pairs) {
  for (auto pair = static_cast<int64_t>(pairs.count()); pair < turns.pairs; ++pair) {
    if (turns.clock() >= turns.deadline_s) break;
    double speeds[2] = {};
    for (const bool second : {false, true}) {
      const bool is_b = second != (pair % 2 == 1);
      QUENCH_TRY(speeds[is_b ? 1 : 0], is_b ? b() : a());
    }
    pairs.a.push_back(speeds[0]);
    pairs.b.push_back(speeds[1]);
  }
  return {};
}

Result<Pairs> measure_pairs(const Turns& turns, const Arm& a, const Arm& b) {
  Pairs pairs;
  QUENCH_TRY_VOID(continue_pairs(turns, a, b, pairs));
  return pairs;
}

PairSpread pair_spread(const Pairs& pairs) {
  PairSpread spread;
  if (pairs.count() == 0) return spread;
  std::vector<double> logs = pairs.ratios();
  for (double& value : logs) value = std::log(value);
  const auto n = static_cast<double>(logs.size());
  spread.outlier_share = static_cast<double>(find_outliers(logs).size()) / n;
  const double middle = median(logs);
  for (double& value : logs) value = std::fabs(value - middle);
  spread.log_sd = kMadToSd * median(logs) * n / (n - 0.8);
  return spread;
}

std::optional<double> smallest_paired_difference(const PairSpread& spread, int64_t pairs,
                                                 double alpha) {
  if (pairs < 1 || power(spread, kLargestDifference, pairs, alpha) < kPower) return std::nullopt;
  double low = 0.0;
  double high = kLargestDifference;
  while (high - low > 1e-4 * high && high > 1e-6) {
    const double middle = 0.5 * (low + high);
    (power(spread, middle, pairs, alpha) < kPower ? low : high) = middle;
  }
  return high;
}

std::optional<int64_t> pairs_needed(const PairSpread& spread, double difference, double alpha) {
  // One by one where it matters, then in steps of some per cent.
  for (int64_t n = 1; n <= kMostPairs; n += 1 + n / 50) {
    if (power(spread, difference, n, alpha) >= kPower) return n;
  }
  return std::nullopt;
}

Result<Pairs> measure_pairs_to_find(Turns turns, double difference, double alpha, const Arm& a,
                                    const Arm& b) {
  QUENCH_TRY(Pairs pairs, measure_pairs(turns, a, b));
  for (;;) {
    const size_t before = pairs.count();
    turns.pairs = pairs_needed(pair_spread(pairs), difference, alpha).value_or(kMostPairs);
    QUENCH_TRY_VOID(continue_pairs(turns, a, b, pairs));
    if (pairs.count() == before) return pairs;  // enough, or the deadline
  }
}

}  // namespace quench
