#include "measure/analyze/map_fit.h"

#include <algorithm>
#include <cmath>

namespace quench {
namespace {

constexpr int kMaxSteps = 30;
constexpr double kLargestStep = 0.3;  // of a logarithm: the model is far from linear
// Cauchy weights (Holland, Welsch, "Robust regression using iteratively reweighted least-squares",
// 1977): a row this many deviations off counts half.
constexpr double kRobustWidth = 2.5;
constexpr double kConverged = 1e-4;
constexpr double kDerivativeStep = 1e-4;

// d log predict / d log constants, by central differences.
template <class Predict>
std::vector<double> gradient(const std::vector<double>& constants, const Predict& predict) {
  std::vector<double> result(constants.size(), 0.0);
  std::vector<double> moved = constants;
  for (size_t k = 0; k < constants.size(); ++k) {
    if (constants[k] == 0.0) continue;
    moved[k] = constants[k] * std::exp(kDerivativeStep);
    const double up = predict(moved);
    moved[k] = constants[k] * std::exp(-kDerivativeStep);
    const double down = predict(moved);
    moved[k] = constants[k];
    result[k] = std::log(up / down) / (2.0 * kDerivativeStep);
  }
  return result;
}

// The inverse of a symmetric positive definite matrix, by Gauss-Jordan elimination.
std::vector<double> inverse(std::vector<double> a, size_t n) {
  std::vector<double> b(n * n, 0.0);
  for (size_t i = 0; i < n; ++i) b[i * n + i] = 1.0;
  for (size_t i = 0; i < n; ++i) {
    const double pivot = a[i * n + i];
    for (size_t j = 0; j < n; ++j) {
      a[i * n + j] /= pivot;
      b[i * n + j] /= pivot;
    }
    for (size_t row = 0; row < n; ++row) {
      const double factor = a[row * n + i];
      if (row == i || factor == 0.0) continue;
      for (size_t j = 0; j < n; ++j) {
        a[row * n + j] -= factor * a[i * n + j];
        b[row * n + j] -= factor * b[i * n + j];
      }
    }
  }
  return b;
}

// A fixed constant gets a tiny deviation, which keeps the matrix regular and the constant still.
double prior_precision(const LogNormals& prior, size_t k) {
  const double sd = prior.value[k] == 0.0 ? 1e-6 : std::max(prior.log_sd[k], 1e-6);
  return 1.0 / (sd * sd);
}

}  // namespace

MapFit prior_fit(const LogNormals& prior) {
  const size_t n = prior.value.size();
  MapFit fit = {prior.value, std::vector<double>(n * n, 0.0)};
  for (size_t k = 0; k < n; ++k) fit.covariance[k * n + k] = 1.0 / prior_precision(prior, k);
  return fit;
}

MapFit fit_map(const LogNormals& prior, const Observations& observations) {
  const size_t n = prior.value.size();
  MapFit fit = prior_fit(prior);
  for (int step = 0; step < kMaxSteps; ++step) {
    std::vector<double> information(n * n, 0.0);
    std::vector<double> slope(n, 0.0);
    for (size_t k = 0; k < n; ++k) {
      information[k * n + k] = prior_precision(prior, k);
      if (prior.value[k] > 0.0)
        slope[k] = prior_precision(prior, k) * std::log(prior.value[k] / fit.value[k]);
    }
    for (size_t i = 0; i < observations.value.size(); ++i) {
      auto predict = [&](const std::vector<double>& constants) {
        return observations.predict(constants, i);
      };
      const std::vector<double> g = gradient(fit.value, predict);
      const double residual = std::log(observations.value[i] / predict(fit.value));
      const double deviations =
          observations.is_robust ? residual / (kRobustWidth * observations.log_sd[i]) : 0.0;
      const double weight =
          1.0 / ((1.0 + deviations * deviations) * observations.log_sd[i] * observations.log_sd[i]);
      for (size_t k = 0; k < n; ++k) {
        slope[k] += weight * g[k] * residual;
        for (size_t j = 0; j < n; ++j) information[k * n + j] += weight * g[k] * g[j];
      }
    }
    fit.covariance = inverse(information, n);
    double largest = 0.0;
    for (size_t k = 0; k < n; ++k) {
      double move = 0.0;
      for (size_t j = 0; j < n; ++j) move += fit.covariance[k * n + j] * slope[j];
      largest = std::max(largest, std::fabs(move));
      fit.value[k] *= std::exp(std::clamp(move, -kLargestStep, kLargestStep));
    }
    if (largest < kConverged) break;
  }
  return fit;
}

double log_sd_of(const MapFit& fit,
                 const std::function<double(const std::vector<double>& constants)>& predict) {
  const size_t n = fit.value.size();
  const std::vector<double> g = gradient(fit.value, predict);
  double variance = 0.0;
  for (size_t k = 0; k < n; ++k) {
    for (size_t j = 0; j < n; ++j) variance += g[k] * fit.covariance[k * n + j] * g[j];
  }
  return std::sqrt(std::max(variance, 0.0));
}

}  // namespace quench
