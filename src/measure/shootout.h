// The shootout: one model as it is stored and in several profiles, measured side by side on size,
// speed and loss, with a recommendation for each need.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "engine/session.h"
#include "measure/eval/evaluate.h"
#include "measure/machine.h"
#include "measure/measured_model.h"
#include "measure/protocol.h"
#include "measure/recommend.h"

namespace quench {

struct ShootoutRow {
  std::string profile;  // "reference", a recipe or a format
  MeasuredModel model;
  Json target;                        // BenchTarget::describe()
  int64_t planned_bytes = 0;          // of the whole plan: weights, KV, activations
  std::optional<int64_t> peak_bytes;  // see measure_peak in shootout.cc and docs/measuring.md
  double make_s = 0.0;                // reading, quantizing, packing
  Json choice;                        // of its format by measurement; null: the recipe's own
  std::vector<TaskRuns> runs;
  SpeedSummary speed;
  std::optional<ModelScores> scores;  // null until evaluated
};

struct ShootoutOptions {
  SessionOptions session;  // of the reference; format and recipe are empty
  std::vector<std::string>
      profiles;                  // recipe names, recipe files or formats; empty: the protocol's
  std::string length = "short";  // of the protocol
  std::string lang = "en";
  std::string text_path;   // empty: the shipped texts/eval
  std::string models_dir;  // where quantized models are kept; empty: a temporary directory
  uint64_t first_seed = 1;
  RecommendRules rules;
  std::optional<int64_t> memory_bytes;  // that may be taken; null: what is free
  const std::atomic<bool>* stop = nullptr;
  // stage: a short phrase, the same as long as one thing goes on.
  std::function<void(const std::string& stage, int64_t done, int64_t total)> progress;
};

struct Shootout {
  std::vector<ShootoutRow> rows;  // the reference first
  Protocol protocol;
  ProtocolLength length;
  std::string lang;
  uint64_t first_seed = 1;
  bool interleaved = true;               // all rows took turns; false: not all were open at once
  bool complete = false;                 // false: stopped before its end
  std::optional<Evaluation> evaluation;  // what was evaluated; the scores are in the rows
  Recommendation recommendation;
};

// Clears `result` and fills it as it goes: what is in it when an error comes back is measured.
Result<void> run_shootout(const ShootoutOptions& options, Shootout& result);

}  // namespace quench
