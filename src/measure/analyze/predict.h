// Predictor: how fast a model should run, and how much memory it should take, for an engine, a
// precision and a device, with an interval. A step model (step_model.h) whose constants start at
// what is known of the kind of engine and are fitted to measured rows from the general to the
// special: all rows of the engine with this precision, those on this device, those of exactly this
// version. Owns its rows; const members may be called from any thread.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "measure/analyze/map_fit.h"
#include "measure/analyze/published.h"
#include "measure/analyze/step_model.h"
#include "measure/report/strings.h"

namespace quench {

struct Interval {
  double value = 0.0;
  double low = 0.0;  // 90 %
  double high = 0.0;
};
// {value, low, high}, each times `scale`.
Json interval_json(const Interval& interval, double scale = 1.0);

// What is known of an engine, a precision and a device before a model is named.
struct PredictorFit {
  StepConstants constants{};
  MapFit speed;
  MapFit memory;
  double noise = 0.0;      // log deviation of the rows around the fit
  int64_t num_models = 0;  // fitted to; 0: prior knowledge only
  Sentence basis;
};

struct MemoryTerms {
  double weights_bytes = 0.0;
  double kv_bytes = 0.0;
  double activations_bytes = 0.0;
  double overhead_bytes = 0.0;   // copies of the cache, tables, logits of the prompt
  double load_peak_bytes = 0.0;  // while loading, where that is known to be different

  double total_bytes() const;
};

struct Prediction {
  StepTerms step;  // at the mean context
  StepTerms prefill;
  Interval tpot_s;
  Interval ttft_s;
  Interval request_s;
  Interval decode_tok_s;  // output tokens over request_s, of the whole batch
  MemoryTerms memory;
  Interval memory_bytes;
  PredictorFit calibration;
};

// What to leave out when asking what would have been predicted.
struct CalibrationScope {
  bool sound = false;  // leave out engines' known pathologies: what a sound program would do
  std::string skip_model = {};  // a shape's name
  std::string source = {};      // of the special rows; empty: any
};

class Predictor {
 public:
  // A published row whose model, engine, precision and device are known.
  struct Row {
    PublishedRow published;
    Placement setup;
    bool is_outlier = false;
    bool is_pathology = false;
    bool is_memory_anomaly = false;

    // Batch 1, one device, a prompt of one token, a dense model: what the constants that matter
    // most are fitted to.
    bool is_plain() const;
  };

  // The shipped rows and `extra` ones.
  static Result<Predictor> load(const std::vector<PublishedRow>& extra = {});

  // Names as people give them. An empty precision: what the model's name says, else bf16.
  Result<Placement> setup(const std::string& model, const std::string& engine,
                          const std::string& precision, const Hardware& device) const;

  // engine_text: as given, with its version ("vLLM 0.6.3").
  PredictorFit calibrate(const Placement& setup, const std::string& engine_text,
                         const CalibrationScope& scope = {}) const;
  static Prediction predict(const Placement& setup, PredictorFit calibration);
  // The published row most like it with a speed (or, `memory`, a memory figure); null: none of this
  // engine.
  const Row* nearest(const Placement& setup, const std::string& engine_text,
                     bool memory = false) const;

  const std::vector<Row>& rows() const { return rows_; }
  const std::vector<Anomaly>& anomalies() const { return anomalies_; }
  const Engines& engines() const { return engines_; }

 private:
  MapFit fit_memory(const Placement& setup, const std::string& engine_text,
                    const CalibrationScope& scope) const;

  Engines engines_;
  std::vector<Anomaly> anomalies_;
  std::vector<Row> rows_;
};

}  // namespace quench
