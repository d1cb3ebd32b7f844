#include "quantize/estimate_parts.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/clock.h"
#include "base/random.h"
#include "formats/quantized_tensor.h"
#include "quantize/calibrate.h"
#include "quantize/dense_parts.h"

namespace quench {
namespace {

// Program, tokenizer, registries: what a job on a tiny model takes.
constexpr int64_t kBaseBytes = int64_t{40} << 20;
// Rows and columns of a sample.
constexpr int64_t kEstimateRows = kPackRows;
constexpr int64_t kEstimateCols = 1024;
// Operations per second beside the sample product's, as measured on the 7B shape with 65,536 tokens
// (docs/quantizing.md): layers and second moments are multiplied in int8, which is twice as fast.
constexpr double kForwardShare = 1.1;
constexpr double kMomentShare = 0.8;
constexpr double kFactorShare = 0.22;
constexpr double kFeedbackShare = 0.6;

std::vector<float> sample_values(int64_t rows, int64_t cols) {
  std::vector<float> values(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(random_uniform(3, i) - 0.5);
  return values;
}

// Seconds of one worker for a weight in this format.
Result<double> rounding_s(const Format& format, int64_t cols, const Algorithm& algorithm,
                          Device& device) {
  cols = format.fits(kEstimateRows, kEstimateCols) ? std::min(cols, kEstimateCols) : cols;
  InputStats stats;
  stats.tokens = 1;
  stats.mean_square.assign(static_cast<size_t>(cols), 1.0f);
  stats.mean_abs = stats.mean_square;
  if (algorithm.needs == Needs::kSecondMoment) {
    stats.second_moment = SymmetricMatrix(cols);
    for (int64_t i = 0; i < cols; ++i) stats.second_moment.row(i)[i] = 1.0f;
  }
  QUENCH_TRY(const auto encoder,
             algorithm.prepare(format, cols, algorithm.needs == Needs::kNothing ? nullptr : &stats,
                               device));
  const std::vector<float> values = sample_values(kEstimateRows, cols);
  QuantizedTensor encoded(format, kEstimateRows, cols);
  double best = 0.0;
  for (int turn = 0; turn < 3; ++turn) {
    const double start_s = now_s();
    encoder->encode(values.data(), kEstimateRows, encoded.planes());
    const double seconds = now_s() - start_s;
    best = turn == 0 ? seconds : std::min(best, seconds);
  }
  return best / static_cast<double>(kEstimateRows * cols);
}

// Multiplications and additions per second of the team, in a product of bf16 matrices.
double product_rate(Device& device) {
  constexpr int64_t kSize = 1024;
  constexpr int64_t kTokens = 256;
  const std::vector<float> values = sample_values(kSize, kSize);
  const PackedMatrix matrix(device, "bf16", values.data(), kSize, kSize, kSize);
  std::vector<float> y(static_cast<size_t>(kTokens * kSize));
  const LineBuffer scratch(matrix.scratch_bytes(kTokens));
  double best = 0.0;
  for (int turn = 0; turn < 4; ++turn) {
    const double start_s = now_s();
    device.run([&](OpContext context) {
      context.scratch = scratch.data();
      matrix.multiply(context, values.data(), kTokens, y.data());
    });
    best = std::max(best, 2.0 * kTokens * kSize * kSize / (now_s() - start_s));
  }
  return best;
}

// Of a team of workers, as if all were busy.
Result<double> rounding_of_all_s(const QuantizeJob& job) {
  Device& device = *job.model->device;
  std::map<std::pair<const Format*, int64_t>, double> rates;
  double seconds = 0.0;
  for (const QuantizeUnit& unit : job.units) {
    for (const QuantizeItem& item : unit.items) {
      if (!item.is_quantized || item.keeps_numbers) continue;
      const std::pair key(item.format, item.format->tile_cols == 0 ? item.spec.cols : 0);
      if (!rates.contains(key)) {
        QUENCH_TRY(rates[key], rounding_s(*item.format, item.spec.cols, *job.algorithm, device));
      }
      seconds += rates[key] * static_cast<double>(item.spec.rows * item.spec.cols);
    }
  }
  return seconds / device.num_workers();
}

double calibration_s(const QuantizeJob& job, int64_t num_tokens) {
  const auto tokens = static_cast<double>(num_tokens);
  const MoeConfig& moe = job.model->files.config.moe;
  const double expert_share = moe.num_experts > 0 ? static_cast<double>(moe.num_experts_per_tok) /
                                                        static_cast<double>(moe.num_experts)
                                                  : 1.0;
  const bool squares = job.algorithm->needs == Needs::kSecondMoment;
  double forward = 0.0, moments = 0.0, factors = 0.0, feedback = 0.0;
  for (const QuantizeUnit& unit : job.units) {
    std::set<std::string> inputs;
    for (const QuantizeItem& item : unit.items) {
      const auto rows = static_cast<double>(item.spec.rows);
      const auto cols = static_cast<double>(item.spec.cols);
      const double share = item.spec.expert >= 0 ? expert_share : 1.0;
      if (unit.layer >= 0) forward += 2.0 * rows * cols * tokens * share;
      const std::string input = calibration_input(item.spec);
      if (!squares || !item.is_quantized || input.empty()) continue;
      feedback += rows * cols * cols;
      if (!inputs.insert(input).second) continue;
      moments += tokens * share * cols * cols;
      factors += cols * cols * cols / 3.0;
    }
  }
  return (forward / kForwardShare + moments / kMomentShare + factors / kFactorShare +
          feedback / kFeedbackShare) /
         product_rate(*job.model->device);
}

// What encoding a matrix holds at most, beside what calibration has left.
int64_t encoding_bytes(const QuantizeJob& job, const CalibrationMemory& calibration) {
  const bool is_own = job.has_own_layout();
  const int64_t workers = job.model->device->num_workers();
  int64_t most = 0;
  for (const QuantizeUnit& unit : job.units) {
    for (const QuantizeItem& item : unit.items) {
      const int64_t cols = item.spec.cols;
      const int64_t block = encoding_block_rows(cols);
      const int64_t rows = is_own ? std::min(item.spec.rows, block * workers) : item.spec.rows;
      const int64_t encoded = item.bytes / std::max<int64_t>(item.spec.rows, 1) * rows;
      // A writer of another layout has the matrix in its own order, too.
      most = std::max(most, encoded * (is_own ? 1 : 2) + 4 * workers * block * cols * 4);
    }
  }
  if (calibration.largest_moment > 0) {
    // The copy that is factored; then what is kept of it in bf16, when the original is gone.
    most += calibration.largest_moment;
  }
  if (job.algorithm->scales_inputs) {
    // Before that, a square of it to multiply by.
    most = std::max(most, 2 * calibration.largest_moment);
  }
  return most;
}

}  // namespace

Result<QuantizeEstimate> estimate_quantize(const QuantizeOptions& options, const QuantizeJob& job) {
  QuantizeEstimate estimate;
  CalibrationMemory calibration;
  QUENCH_TRY(estimate.seconds, rounding_of_all_s(job));
  if (job.algorithm->needs != Needs::kNothing) {
    QUENCH_TRY(const EvalTexts texts, calibration_texts(options, job.model->files));
    estimate.calibration_tokens = texts.num_tokens();
    QUENCH_TRY(calibration, calibration_memory(job, estimate.calibration_tokens));
    estimate.seconds += calibration_s(job, estimate.calibration_tokens);
  }
  estimate.peak_bytes = kBaseBytes + std::max(calibration.collecting,
                                              calibration.kept + encoding_bytes(job, calibration));
  return estimate;
}

}  // namespace quench
