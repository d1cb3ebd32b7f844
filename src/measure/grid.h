// SpeedGrid: the speed of the model itself, without tokenizer, sampler and scheduler: prefill and
// decode at given lengths, contexts and batch sizes, each beside the limit that follows from the
// machine's ceilings. One thread.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "measure/grid_runner.h"
#include "measure/measured_model.h"
#include "measure/problem.h"
#include "measure/telemetry.h"

namespace quench {

struct GridOptions {
  SessionOptions session;
  // Every combination is measured. A length of 0 leaves its kind out.
  std::vector<int64_t> prompt_tokens = {512};
  std::vector<int64_t> generated_tokens = {64};
  std::vector<int64_t> depths = {0};   // tokens in the cache before; filled in, not computed
  std::vector<int64_t> batches = {1};  // sequences side by side
  int64_t repetitions = 5;
  uint64_t seed = 0;  // of the token ids
  // Each row is also predicted, from a slice of the model and from the ceilings, both measured in
  // turns with it.
  bool predict = false;
  std::string trace_path;  // a trace of one more run of each row, which is not counted; or empty
  std::string label;
  const std::atomic<bool>* stop = nullptr;
  std::function<void(const std::string& stage, int64_t done, int64_t total)> progress;
};

struct SpeedGrid {
  std::string label;
  std::string model;
  bool random_weights = false;
  std::string family;
  int64_t num_layers = 0;
  std::string format;
  std::string device;
  std::string isa;
  int threads = 0;
  MeasuredModel measured;
  std::vector<std::string> kernels;  // "format: kernel"
  int64_t weights_bytes = 0;
  int64_t step_tokens = 0;  // prompts are run in pieces of this many tokens
  double load_s = 0.0;
  Ceilings ceilings;   // measured right before the rows; with `predict` in turns with them
  MachineState state;  // while the rows were measured
  std::vector<TelemetrySample> series;  // likewise
  std::vector<GridRow> rows;
  std::vector<Problem> problems;
};

// Opens the model, measures the ceilings, then the rows in turn, repetition by repetition.
Result<SpeedGrid> run_grid(GridOptions options);

// Rows whose median is over their limit by more than a ceiling can be wrong.
std::vector<Problem> impossible_rows(const std::vector<GridRow>& rows);

// quench.bench/1. `time` comes from the caller, so that equal inputs give equal JSON.
Json grid_json(const SpeedGrid& grid, const std::string& time);

}  // namespace quench
