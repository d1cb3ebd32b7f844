// Calibration: what the inputs of a model's matrices look like on real text. Texts are run layer by
// layer with the original weights; a layer's inputs are reduced to the sums that an algorithm asks
// for and forgotten. Owns the hidden states of its texts. One thread.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "engine/layer_runner.h"
#include "quantize/job_times.h"
#include "quantize/quantize.h"
#include "text/documents.h"

namespace quench {

// Which input feeds a matrix: matrices of one layer with the same name share it. Empty: none that
// calibration sees (the embedding).
std::string calibration_input(const TensorSpec& spec);

// The texts that the options name, cut to their number of tokens.
Result<EvalTexts> calibration_texts(const QuantizeOptions& options, const ModelFiles& files);

// What a calibration holds in memory at most, in bytes.
struct CalibrationMemory {
  int64_t collecting = 0;      // while texts pass through a layer
  int64_t kept = 0;            // while the layer's matrices are encoded
  int64_t largest_moment = 0;  // of `kept`
};
Result<CalibrationMemory> calibration_memory(const QuantizeJob& job, int64_t num_tokens);

class Calibration {
 public:
  static Result<std::unique_ptr<Calibration>> open(const QuantizeOptions& options,
                                                   const QuantizeJob& job, JobTimes& times);

  const std::string& text_sha256() const { return sha256_; }
  int64_t num_tokens() const { return runner_->num_tokens(); }

  // Runs layer `layer` after all before it; layers must be asked for in ascending order, and the
  // head's input (layer -1) last.
  Result<void> collect(int64_t layer);
  // Of the layer that was collected last; null for inputs that were not seen. Who needs them the
  // last time may empty them.
  const InputStats* stats(const TensorSpec& spec) const;
  InputStats* stats(const TensorSpec& spec);
  // What was collected of an input of the last layer is needed no longer.
  void forget(const std::string& input) { stats_.erase(input); }

 private:
  Result<void> load_layer(int64_t layer);
  void run_layer(const Observer* observer);
  Result<void> collect_head_input();
  void find_rotations(int64_t layer);
  void finish_sums();
  void observe(const char* name, const float* data, int64_t rows, int64_t cols);
  void add(const std::string& input, const float* data, int64_t rows, int64_t cols);
  // Moves the waiting rows of inputs with at least `min_rows` into their sums.
  void reduce(int64_t min_rows);

  std::string sha256_;
  std::unique_ptr<LayerRunner> runner_;
  Needs needs_ = Needs::kMeans;
  const QuantizeJob* job_ = nullptr;
  JobTimes* times_ = nullptr;
  int64_t next_layer_ = 0;
  std::map<std::string, InputStats> stats_;                 // sums until collect() divides them
  std::map<std::string, std::vector<float>> waiting_;       // rows that are not in the sums yet
  std::map<std::string, const InputTransform*> rotations_;  // of the layer's inputs
};

}  // namespace quench
