// Pairs: two arms measured in turns, ABBA, so that a drift of the machine falls on both alike, and
// what so many pairs can tell. The arms are functions: nothing here knows a model or a clock of its
// own. Plain values; the arms are called by the caller's thread.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "base/result.h"

namespace quench {

// One run; how fast it was.
using Arm = std::function<Result<double>()>;

struct Turns {
  int64_t pairs = 8;  // 6 are the fewest with a 95 % interval of the median
  double deadline_s = 0.0;
  std::function<double()> clock;  // seconds
};

struct Pairs {
  std::vector<double> a, b;

  size_t count() const { return a.size(); }
  std::vector<double> ratios() const;  // b over a
};

// Every second pair is measured the other way round. Ends at the deadline, or with what the arms
// return as an error. The second continues to turns.pairs in all.
Result<Pairs> measure_pairs(const Turns& turns, const Arm& a, const Arm& b);
Result<void> continue_pairs(const Turns& turns, const Arm& a, const Arm& b, Pairs& pairs);

// How the logarithms of the ratios scatter: normally with log_sd (1.4826 MAD, with Croux and
// Rousseeuw's factor n / (n - 0.8) for few values, 1992), but for a share of outliers.
struct PairSpread {
  double log_sd = 0.0;
  double outlier_share = 0.0;  // say nothing of which side is faster
};
PairSpread pair_spread(const Pairs& pairs);

// Pairs are judged by the exact sign test (rank_test() with each pair as a stratum). What it finds
// with 90 % power at the two-sided level alpha, when ratios scatter like this:
// - the smallest difference of the speeds, as a share; null: none, there are too few pairs.
std::optional<double> smallest_paired_difference(const PairSpread& spread, int64_t pairs,
                                                 double alpha);
// - the number of pairs for this difference; null: more than kMostPairs.
constexpr int64_t kMostPairs = 1000;
std::optional<int64_t> pairs_needed(const PairSpread& spread, double difference, double alpha);

// After turns.pairs, goes on to the number that this difference needs by the scatter seen until
// then. Which side is faster plays no part in when it ends, so the test keeps its level.
Result<Pairs> measure_pairs_to_find(Turns turns, double difference, double alpha, const Arm& a,
                                    const Arm& b);

}  // namespace quench
