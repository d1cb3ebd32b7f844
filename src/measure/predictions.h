// What the history keeps of predictions: what a measurement must have in common with one to score
// it, and the scores. Plain values; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace quench {

// Speed follows from these; weights' values and the name of a model do not matter.
struct PredictionKey {
  std::string family, format;
  int64_t parameters = 0;
  int64_t bytes_read_per_token = 0;
  std::string machine;  // CPU model
  std::string isa;
  int64_t threads = 0;
  int64_t batch = 1;
};

// One figure: what was said, and what was measured later.
struct Score {
  std::string prediction_id, measurement_id;
  std::string task;    // "chat", "decode", ...
  std::string metric;  // "ttft_s", "tpot_s"
  std::string time, prediction_time;
  std::string model, format, machine;
  double tokens = 0.0;  // of the prompt; of tpot_s: in the cache, at the mean
  double predicted = 0.0, low = 0.0, high = 0.0;
  double measured = 0.0;
  // What the same model of time says with what the machine reached in turns with the measurement
  // (measure/slice.h); null: it was not measured so.
  std::optional<double> expected;
  std::optional<double> others_share;  // of the processors' time meanwhile, stolen time included

  double error() const { return predicted / measured - 1.0; }
  // The error's two parts: (1 + model) (1 + machine) = 1 + error.
  std::optional<double> model_error() const {
    return expected ? std::optional(*expected / measured - 1.0) : std::nullopt;
  }
  std::optional<double> machine_error() const {
    return expected ? std::optional(predicted / *expected - 1.0) : std::nullopt;
  }
  bool is_inside() const { return measured >= low && measured <= high; }
};

// How good the predictions of one metric were.
struct ScoreSummary {
  std::string metric;
  int64_t count = 0;
  double mean_error = 0.0;    // of the errors' sizes, a share
  double bias = 0.0;          // mean of the errors: above 0, predicted too slow
  double inside_share = 0.0;  // 0.9 is what the intervals promise
  // Of those with `expected`: without what the machine did between saying and measuring.
  int64_t model_count = 0;
  double mean_model_error = 0.0;
  double model_bias = 0.0;
};
std::vector<ScoreSummary> summarize_scores(const std::vector<Score>& scores);

}  // namespace quench
