// Scores: what was predicted of a model on this machine is kept before it is measured, and compared
// with what is measured later. Kept is a curve over lengths, so that a measurement of other lengths
// is judged by what was said then and not by what would be said now. Keeps and finds in the user's
// history; one thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "measure/analyze/deploy.h"
#include "measure/predictions.h"

namespace quench {

struct LiveReport;
struct MeasuredModel;
struct SpeedGrid;
class History;

// With so many tokens: first token after a prompt of them; time per token behind them in the cache.
struct PredictedPoint {
  double tokens = 0.0;
  Interval ttft_s, tpot_s;
};

struct KeptPrediction {
  std::string id, time;
  std::string model;
  PredictionKey key;
  double prompt_tokens = 0.0, output_tokens = 0.0;  // that were asked about
  std::vector<PredictedPoint> points;               // ascending; those of the question among them
  Ceilings ceilings;                                // that it was made with

  // Between the points, straight on logarithmic axes; null: longer than any that was predicted.
  std::optional<Interval> ttft_s(double tokens) const;
  std::optional<Interval> tpot_s(double tokens) const;
};

PredictionKey prediction_key(const MeasuredModel& model, const std::string& isa, int64_t threads,
                             int64_t batch);

// Asks `predict` for the lengths of `setup` and for powers of two up to them.
Result<KeptPrediction> make_prediction(const PredictionKey& key, const Placement& setup,
                                       const PredictFn& predict, const Ceilings& ceilings,
                                       const std::string& time);
Json prediction_json(const KeptPrediction& prediction);
Result<KeptPrediction> parse_prediction(const Json& json, const std::string& where);

// One figure of a measurement.
struct MeasuredFigure {
  std::string task;
  std::string metric;   // "ttft_s", "tpot_s"
  double tokens = 0.0;  // as in PredictedPoint
  double measured = 0.0;
  std::optional<double> expected;  // as in Score
};
struct Measurement {
  std::string id, time, model;
  PredictionKey key;
  std::optional<double> others_share;  // as in Score
  std::vector<MeasuredFigure> figures;
};
// Of a quench.record/1 of the engine: medians of each task. Null: of something else.
std::optional<Measurement> measurement_of(const Json& record);
// Of the model alone: prompts without anything before them, and decoding. One for each batch.
std::vector<Measurement> measurements_of(const SpeedGrid& grid, const std::string& time);
Measurement measurement_of(const LiveReport& report, const std::string& time);

std::vector<Score> score(const KeptPrediction& prediction, const Measurement& measurement);
// Finds the newest prediction of the same thing and keeps the scores; empty: nothing was predicted.
Result<std::vector<Score>> score_in_history(History& history, const Measurement& measurement);
// The same in the user's history, as a sentence; empty: nothing was predicted.
Result<std::string> score_measurement(const Measurement& measurement, const Strings& strings);
// The sentence, and what went wrong, for people: the figures are theirs either way.
std::string score_text(const std::vector<Measurement>& measurements, const Strings& strings);
Result<void> keep_prediction(const KeptPrediction& prediction);

}  // namespace quench
