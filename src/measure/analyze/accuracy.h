// How far the predictor is off on models it has not seen: leave one model out of everything that
// is fitted, predict its rows, repeat. Pure functions of a Predictor; any thread.
#pragma once

#include "measure/analyze/predict.h"
#include "measure/report/strings.h"
#include "measure/report/table.h"

namespace quench {

struct AccuracyGroup {
  std::string source;
  std::string engine;
  std::string precision;
  std::string device;
  std::string kind;        // "plain", or what keeps the rows apart: "prompt", "devices", "experts",
                           // "batch", "few models", "anomaly"
  bool is_memory = false;  // of the memory figure, not of the speed
  int64_t num_models = 0;
  int64_t num_rows = 0;
  double mean_error = 0.0;  // of |measured / predicted - 1|
  double max_error = 0.0;
  double inside = 0.0;     // share of rows inside the 90 % interval
  std::string worst = {};  // model with the largest error
};

// Every row with a figure is in exactly one group of speeds, or of memory.
std::vector<AccuracyGroup> leave_one_model_out(const Predictor& predictor);
Table accuracy_table(const std::vector<AccuracyGroup>& groups, const Strings& strings);

}  // namespace quench
