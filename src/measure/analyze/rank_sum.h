// Are two sets of measurements different? The Mann-Whitney U test, stratified: values are compared
// within their stratum (a task) only, and the strata's U are added (van Elteren, "On the
// combination of independent two sample tests of Wilcoxon", 1960, with equal weights). The null
// distribution is exact, so few runs are judged as what they are. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace quench {

struct Stratum {
  std::vector<double> a;
  std::vector<double> b;
};

struct RankTest {
  double p = 1.0;        // two-sided
  double least_p = 1.0;  // the smallest p that so many values can give at all
  double shift = 0.0;    // median of log(a / b) over all pairs of a stratum (Hodges, Lehmann 1963)
  double low = 0.0;   // interval of the shift at the wanted confidence; the extremes where so few
  double high = 0.0;  // values give no such interval
};
// Values must be positive. Ties count half.
RankTest rank_test(const std::vector<Stratum>& strata, double alpha);

// The least number of values on each side, in so many strata, that can reach this p at all.
int64_t runs_needed(double p, int64_t strata);

}  // namespace quench
