// quantize: from a model to a smaller model on disk, layer by layer. A Plan says which tensor gets
// which format; an Algorithm makes the codes; a CheckpointWriter makes the files, which can be
// resumed after a kill. Memory: one layer and a few row blocks, whatever the model's depth.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/session.h"
#include "io/quant_writer.h"
#include "quantize/encoder.h"
#include "quantize/job_times.h"

namespace quench {

// Every tensor in a float format, as the model was published.
constexpr const char* kPlainLayout = "plain";

struct QuantizeOptions {
  SessionOptions session;          // the model and the device; its recipe and format are empty
  std::optional<Recipe> recipe;    // instead of `profile`
  std::string profile;             // a recipe's name or file, or a format
  std::string algorithm;           // over the recipe's; empty: the recipe's
  bool rotate = false;             // although the recipe does not
  std::string calibration;         // text file or directory; empty: the one that ships
  int64_t calibration_tokens = 0;  // of each of its files, at most; 0: all of the text
  std::string layout = "quench";   // of the files: a QuantWriter's name ("gptq", "awq", ...)
  // The files alone change: matrices without a format in the recipe keep their numbers, quantized
  // ones too; `layout` may then also be kPlainLayout.
  bool is_conversion = false;
  std::string out;
  bool resume = false;
  const std::atomic<bool>* stop = nullptr;
  // After every tensor: bytes of the source done and in all, and the relative error so far.
  struct Progress {
    std::string unit;  // "layer 3 of 28", "calibration"
    int64_t done_bytes = 0;
    int64_t total_bytes = 0;
    double relative_error = 0.0;
    JobTimes times;  // so far
  };
  std::function<void(const Progress&)> progress;
};

// A tensor of the output.
struct QuantizeItem {
  TensorSpec spec;                 // the whole tensor of the file
  const Format* format = nullptr;  // of the output
  bool is_quantized = false;       // false: stored plainly, as one tensor in a float format
  bool keeps_numbers = false;      // of the source, which is in this format or has a twin in it
  int64_t source_bytes = 0;
  int64_t bytes = 0;
  InputTransform transform;  // that its input goes through; none: the model's own basis
  std::string fallback;      // why it has not the recipe's format; empty: it has
};

// Tensors of one layer, or of none (embedding, head, final norm).
struct QuantizeUnit {
  std::string name;  // "globals", "layer 3"
  int64_t layer = -1;
  std::vector<QuantizeItem> items;
};

// What is to be done. Owns the opened source.
struct QuantizeJob {
  std::unique_ptr<PlannedModel> model;
  Recipe recipe;
  const Algorithm* algorithm = nullptr;
  const QuantWriter* writer = nullptr;
  bool is_conversion = false;
  std::vector<QuantizeUnit> units;
  int64_t source_bytes = 0;  // as bf16, 2 bytes per weight, whatever the file has
  int64_t bytes = 0;
  int64_t num_weights = 0;

  double saved_fraction() const;
  double bits_per_weight() const;
  // quench's own layout: every format, row blocks as they come; others want the whole matrix.
  bool has_own_layout() const;
};

// Rows of a matrix that a worker encodes at a time.
int64_t encoding_block_rows(int64_t cols);

// The plan alone: what `--dry-run` shows. Refuses what cannot be done: a model that is quantized
// already, an algorithm that does not suit a format.
Result<QuantizeJob> plan_quantize(const QuantizeOptions& options);

// One line per role and format of what was done.
struct QuantizedRole {
  std::string role;
  std::string format;
  std::string fallback;
  int64_t count = 0;
  int64_t weights = 0;
  int64_t bytes = 0;
  double squared_error = 0.0;  // sum over weights of (w - w')^2
  double squared_norm = 0.0;   // sum of w^2

  double relative_error() const;  // root of their ratio
};

struct QuantizeReport {
  std::vector<QuantizedRole> roles;
  std::string calibration_sha256;  // empty: none was used
  int64_t calibration_tokens = 0;
  int64_t resumed_units = 0;  // that an earlier run had finished
  // Matrices that were rounded to nearest instead, and why: no calibration token reached an expert,
  // or what it saw cannot be factored.
  struct Fallback {
    std::string tensor;
    std::string reason;
  };
  std::vector<Fallback> fallbacks;
  double seconds = 0.0;
  JobTimes times;  // of these seconds
};

// Roles of a job as planned: errors are 0.
std::vector<QuantizedRole> planned_roles(const QuantizeJob& job);

Result<QuantizeReport> run_quantize(const QuantizeOptions& options, QuantizeJob& job);

}  // namespace quench
