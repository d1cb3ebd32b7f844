// ModelSlice: the first layers of a model in the formats of its plan, with random weights, run to
// say how long all of it takes: layers are alike, so each takes what these take. It is small enough
// to be run before the model is loaded (quench plan), and beside it, in turns with it, so that what
// the machine does meanwhile falls on both (quench bench --predict). Owns its session and caches;
// one thread drives it.
#pragma once

#include <memory>
#include <vector>

#include "measure/grid_runner.h"

namespace quench {

// Where the time of one pass goes.
struct PassParts {
  double layer_s = 0.0;      // of one layer, without its attention
  double attention_s = 0.0;  // of one layer
  double head_s = 0.0;
  double rest_s = 0.0;  // embedding, host

  double total_s(int64_t num_layers) const {
    return static_cast<double>(num_layers) * (layer_s + attention_s) + head_s + rest_s;
  }
};

class ModelSlice {
 public:
  // Sequences of up to max_seq_len tokens, max_batch at once; kv_tokens as in PlanGoal.
  // kOutOfMemory where even so little of the model is more than a small part of the free memory.
  static Result<std::unique_ptr<ModelSlice>> open(const SessionOptions& whole, const Plan& plan,
                                                  int64_t max_seq_len, int64_t max_batch,
                                                  int64_t kv_tokens = 0);

  int64_t num_layers() const { return session_->plan().config.num_hidden_layers; }
  const Plan& plan() const { return session_->plan(); }
  // Of a prefill row: of the whole prompt; of a decode row: of one step.
  PassParts run(const GridRow& row);

 private:
  ModelSlice() = default;

  std::unique_ptr<Session> session_;
  std::unique_ptr<GridRunner> runner_;
};

// How many layers stand for all: a share of them, more where so few would stay in a cache that the
// whole model does not stay in.
int64_t slice_layers(const Plan& plan, int64_t cache_bytes);

// What a slice said of some passes, and so of those between them.
class SliceTimes {
 public:
  // Of prompts of up to prompt_tokens, contexts of up to context_tokens and up to max_batch
  // sequences. Takes two rounds of them, or up to two seconds: of 0.5B a second or two, of 7B in
  // bf16 ten, and what it takes to make the weights.
  static Result<SliceTimes> measure(const SessionOptions& whole, const Plan& plan,
                                    int64_t prompt_tokens, int64_t context_tokens,
                                    int64_t max_batch);

  // One row is a measured pass: what it was, and its parts.
  struct Row {
    Pass pass;
    PassParts parts;
  };
  SliceTimes(int64_t num_layers, const std::vector<Row>& rows);

  // Of all the layers.
  double pass_s(const Pass& pass) const;

 private:
  // Ascending in x; straight between the points, in proportion beyond the last.
  struct Curve {
    std::vector<std::pair<double, double>> points;
    void add(double x, double y);
    double at(double x) const;
  };

  int64_t num_layers_ = 0;
  Curve layer_s_, rest_s_;                // over tokens
  Curve head_s_;                          // over rows of logits
  Curve prompt_attention_s_;              // of each token of a prompt, over the prompt's tokens
  Curve decode_attention_s_;              // of one sequence, over its context
  double attention_s_per_product_ = 0.0;  // a query of a prompt and a key before it
};

}  // namespace quench
