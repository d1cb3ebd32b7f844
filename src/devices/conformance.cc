#include "devices/conformance.h"

#include <fmt/format.h>

#include <numbers>

#include "base/random.h"
#include "devices/conformance_data.h"
#include "devices/tolerance.h"

namespace quench {
namespace conformance {

std::vector<float> normal_values(uint64_t seed, int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; i += 2) {
    // Box and Muller, 1958.
    const auto index = static_cast<uint64_t>(i);
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random_uniform(seed, index)));
    const double angle = 2.0 * std::numbers::pi * random_uniform(seed, index + 1);
    values[static_cast<size_t>(i)] = scale * static_cast<float>(radius * std::cos(angle));
    if (i + 1 < count)
      values[static_cast<size_t>(i + 1)] = scale * static_cast<float>(radius * std::sin(angle));
  }
  return values;
}

std::vector<float> awkward_rows(uint64_t seed, int64_t rows, int64_t cols, float scale) {
  std::vector<float> values = normal_values(seed, rows * cols, scale);
  for (int64_t r = 0; r < rows; ++r) {
    float* row = values.data() + r * cols;
    const auto random = [&](int64_t i) {
      return random_uniform(seed, static_cast<uint64_t>(r * cols + i), 1);
    };
    switch (r % 7) {
      case 1:
        for (int64_t i = 0; i <= cols / 64; ++i) {
          const auto at = static_cast<int64_t>(random(2 * i) * static_cast<double>(cols));
          row[at] *= static_cast<float>(std::pow(10.0, 1.0 + random(2 * i + 1)));
        }
        break;
      case 2:
        std::fill(row, row + cols, 0.0f);
        break;
      case 3:
        for (int64_t i = 0; i < cols; ++i) row[i] *= 1e-40f / scale;
        break;
      case 4:
        for (int64_t i = 0; i < cols; ++i) row[i] *= 1000.0f;
        break;
      case 5:
        for (int64_t i = 0; i < cols; ++i) row[i] *= 0.001f;
        std::fill(row + cols / 3, row + cols / 2, 0.0f);
        break;
      case 6:
        std::fill(row, row + cols, 0.0f);
        row[static_cast<int64_t>(random(0) * static_cast<double>(cols))] = -100.0f * scale;
        break;
      default:
        break;
    }
  }
  return values;
}

bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, static_cast<size_t>(count) * sizeof(float)) == 0;
}

double norm(const float* x, int64_t count) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  return std::sqrt(sum);
}

Verdict::Verdict(std::string name, std::string shape) {
  result_.name = std::move(name);
  result_.shape = std::move(shape);
}

void Verdict::compare(const float* y, const float* wanted, int64_t cols, double allowed,
                      const std::string& where) {
  double sum = 0.0;
  bool finite = true;
  for (int64_t i = 0; i < cols; ++i) {
    const double difference = static_cast<double>(y[i]) - wanted[i];
    sum += difference * difference;
    finite &= std::isfinite(y[i]);
  }
  const double error = std::sqrt(sum);
  const double size = std::max(norm(wanted, cols), kNothing);
  const bool fine = finite && error <= allowed;
  const double ratio = !finite        ? std::numeric_limits<double>::infinity()
                       : error == 0.0 ? 0.0
                                      : error / std::max(allowed, 1e-300);
  if (ratio > worst_) {
    worst_ = ratio;
    result_.error = finite ? error / size : std::numeric_limits<double>::infinity();
    result_.tolerance = allowed / size;
  }
  require(fine, finite ? fmt::format("{} is {:.3g} of the norm away from ref, allowed are {:.3g}",
                                     where, error / size, allowed / size)
                       : fmt::format("{} holds a value that is not finite", where));
}

void Verdict::require(bool fine, const std::string& what) {
  if (fine || !result_.passed) return;
  result_.passed = false;
  result_.message = what;
}

}  // namespace conformance

Result<TestBench> open_bench(const std::string& device, const std::string& isa) {
  TestBench bench;
  QUENCH_TRY(bench.reference, open_device("cpu", {"ref", 1}));
  for (const int workers : {1, 2, 3}) {
    QUENCH_TRY(auto team, open_device(device, {isa, workers}));
    bench.teams.push_back(std::move(team));
  }
  return bench;
}

Result<std::vector<ConformanceResult>> Conformance::judge(const std::string& device,
                                                          const std::string& isa) {
  QUENCH_TRY(TestBench bench, open_bench(device, isa));
  const Device& team = *bench.teams[0];
  std::vector<ConformanceResult> results;
  auto append = [&](std::vector<ConformanceResult> more) {
    std::move(more.begin(), more.end(), std::back_inserter(results));
  };
  const auto known = [&](const Ops& ops) {
    return std::memcmp(&ops, &team.ops(), sizeof(Ops)) == 0;
  };
  if (std::none_of(judged_ops_.begin(), judged_ops_.end(), known)) {
    append(judge_ops(bench, team.ops(), effort_));
    judged_ops_.push_back(team.ops());
  }
  for (const MatmulKernel* kernel : team.matmul_kernels()) {
    if (std::find(judged_.begin(), judged_.end(), kernel) != judged_.end()) continue;
    append(judge_matmul(bench, *kernel, effort_));
    judged_.push_back(kernel);
  }
  return results;
}

}  // namespace quench
