// A fit of a few positive constants to measurements, with what was believed before: the maximum of
// the posterior under log-normal priors and heavy-tailed noise, by Gauss-Newton steps on the
// logarithms (Nocedal, Wright, "Numerical Optimization", 2nd edition, section 10.3). The prior
// keeps constants that the data say nothing about where they were; the posterior's covariance
// (Laplace's approximation) becomes the interval of a prediction. Pure functions; any thread.
#pragma once

#include <functional>
#include <vector>

namespace quench {

struct LogNormals {
  std::vector<double> value;   // medians; 0: fixed at zero
  std::vector<double> log_sd;  // of the logarithms
};

struct Observations {
  std::vector<double> value;   // positive
  std::vector<double> log_sd;  // noise
  bool is_robust = false;      // some may be wrong: those far off count little
  // What the constants predict for one of them, positive.
  std::function<double(const std::vector<double>& constants, size_t index)> predict;
};

struct MapFit {
  std::vector<double> value;
  std::vector<double> covariance;  // [n, n] of the logarithms
};
MapFit fit_map(const LogNormals& prior, const Observations& observations);

// The fit that no observation has changed.
MapFit prior_fit(const LogNormals& prior);

// Standard deviation of log predict(constants), from the covariance alone.
double log_sd_of(const MapFit& fit,
                 const std::function<double(const std::vector<double>& constants)>& predict);

}  // namespace quench
