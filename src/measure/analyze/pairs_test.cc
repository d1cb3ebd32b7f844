#include "measure/analyze/pairs.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.h"
#include "measure/analyze/rank_sum.h"

namespace quench {
namespace {

// A machine whose speeds scatter by log_sd each; a slow drift lies over all of them.
class DrawnSpeeds {
 public:
  DrawnSpeeds(uint64_t seed, double log_sd) : seed_(seed), log_sd_(log_sd) {}

  Arm arm(double speed) {
    return [this, speed]() -> Result<double> {
      machine_ *= 0.999;
      return machine_ * speed * std::exp(log_sd_ * normal());
    };
  }

 private:
  double normal() {
    const double u = random_uniform(seed_, at_++);
    const double v = random_uniform(seed_, at_++);
    return std::sqrt(-2.0 * std::log(std::max(u, 1e-12))) * std::cos(6.283185307179586 * v);
  }

  uint64_t seed_;
  double log_sd_;
  uint64_t at_ = 0;
  double machine_ = 100.0;
};

Turns endless_turns(int64_t pairs) {
  Turns turns;
  turns.pairs = pairs;
  turns.deadline_s = 1.0;
  turns.clock = [] { return 0.0; };
  return turns;
}

// b is faster by `factor`.
Pairs drawn_pairs(uint64_t seed, int64_t count, double log_sd, double factor) {
  DrawnSpeeds speeds(seed, log_sd);
  return *measure_pairs(endless_turns(count), speeds.arm(1.0), speeds.arm(factor));
}

bool is_called(const Pairs& pairs, double alpha) {
  std::vector<Stratum> strata;
  for (size_t i = 0; i < pairs.count(); ++i) strata.push_back({{pairs.a[i]}, {pairs.b[i]}});
  return rank_test(strata, alpha).p <= alpha;
}

TEST(Pairs, EqualsAreSeldomCalledDifferent) {
  int calls = 0;
  for (uint64_t seed = 0; seed < 200; ++seed)
    calls += is_called(drawn_pairs(seed, 12, 0.05, 1.0), 0.01) ? 1 : 0;
  EXPECT_LE(calls, 5);
}

TEST(Pairs, AsManyAsItAsksForFindTheDifference) {
  int found = 0;
  int64_t most = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const auto needed = pairs_needed(pair_spread(drawn_pairs(seed, 12, 0.05, 1.0)), 0.05, 0.005);
    ASSERT_TRUE(needed);
    most = std::max(most, *needed);
    found += is_called(drawn_pairs(1000 + seed, *needed, 0.05, 1.05), 0.005) ? 1 : 0;
  }
  EXPECT_GE(found, 80);
  EXPECT_LT(most, 500);
  // Without any scatter the fewest pairs that can tell are enough: 2 / 2^9 < 0.005.
  EXPECT_EQ(pairs_needed({}, 0.05, 0.005), 9);
}

// Every run takes 5 % longer: the number of pairs that the scatter asks for, asked for again while
// they come in, finds it as often as promised, and calls equals different no more often.
TEST(Pairs, GoesOnToTheNumberThatFindsADelayOf5Percent) {
  constexpr double kAlpha = 0.01;
  int found = 0;
  int called = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    for (const double factor : {1.0 / 1.05, 1.0}) {
      DrawnSpeeds speeds(5000 + seed, 0.05);
      const auto pairs = measure_pairs_to_find(endless_turns(12), 0.05, kAlpha, speeds.arm(1.0),
                                               speeds.arm(factor));
      ASSERT_TRUE(pairs);
      EXPECT_LT(pairs->count(), static_cast<size_t>(kMostPairs));
      (factor < 1.0 ? found : called) += is_called(*pairs, kAlpha) ? 1 : 0;
    }
  }
  EXPECT_GE(found, 170);
  EXPECT_LE(called, 5);
}

TEST(Pairs, TheSmallestDifferenceIsWhatSoManyPairsAreNeededFor) {
  const PairSpread spread = {.log_sd = 0.04, .outlier_share = 0.05};
  const auto difference = smallest_paired_difference(spread, 20, 0.01);
  ASSERT_TRUE(difference);
  // Wins are whole numbers: some smaller numbers of pairs find it too.
  EXPECT_LE(*pairs_needed(spread, *difference, 0.01), 20);
  EXPECT_GT(*pairs_needed(spread, 0.7 * *difference, 0.01), 20);
  EXPECT_FALSE(smallest_paired_difference(spread, 7, 0.01));  // 2 / 2^7 > 0.01
  EXPECT_FALSE(smallest_paired_difference(spread, 0, 0.01));
  // More scatter, a larger difference.
  EXPECT_GT(*smallest_paired_difference({.log_sd = 0.08}, 20, 0.01), *difference);
}

TEST(Pairs, OutliersCountAsChanceNotAsScatter) {
  Pairs pairs = drawn_pairs(1, 20, 0.01, 1.0);
  const PairSpread quiet = pair_spread(pairs);
  EXPECT_NEAR(quiet.log_sd, 0.014, 0.007);
  pairs.b[3] /= 3.0;
  const PairSpread disturbed = pair_spread(pairs);
  EXPECT_NEAR(disturbed.log_sd, quiet.log_sd, 0.5 * quiet.log_sd);
  EXPECT_GE(disturbed.outlier_share, 0.05);
}

}  // namespace
}  // namespace quench
