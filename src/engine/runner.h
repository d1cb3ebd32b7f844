// Runner: a model with its KV cache and workspace, one forward pass at a time. The engine schedules
// on top of it; evaluation and golden tests use it directly. One thread drives it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/page_pool.h"
#include "models/blocks.h"
#include "plan/plan.h"

namespace quench {

// One sequence's part of a batch: tokens [num_cached, num_cached + tokens.size()) of it.
struct BatchEntry {
  SequenceState* state;
  std::span<const int32_t> tokens;
  int64_t num_logits = 0;  // of how many of the last tokens the logits are wanted
};

class Runner {
 public:
  static Result<std::unique_ptr<Runner>> create(const Plan& plan, const Model& model,
                                                Device& device);

  PagePool& pages() { return pages_; }
  const Plan& plan() const { return plan_; }
  const ModelConfig& config() const { return plan_.config; }

  bool reserve(SequenceState& state, int64_t num_tokens) {
    return pages_.reserve(state, num_tokens);
  }
  void release(SequenceState& state) { pages_.release(state); }

  // Fills the first num_tokens of `state`'s cache with seeded values in [-1, 1), the same in every
  // page, as if that many tokens had been run: for measuring speed at a context without computing
  // it. The pages are reserved.
  void fill_cache(SequenceState& state, int64_t num_tokens, uint64_t seed);

  // Runs one step and advances every entry's num_cached. The entries have reserved pages and are
  // within the plan's limits. Returns logits [rows, vocab_size] in the order of the entries, valid
  // until the next call.
  std::span<float> run(std::span<const BatchEntry> entries, const Observer* observer = nullptr);

  // Calls use(first_position, logits [rows, vocab_size]) for a whole text, in chunks of the plan's
  // step size, with a fresh sequence. The text must fit max_seq_len.
  using LogitsUse = std::function<void(int64_t first_position, std::span<const float> logits)>;
  Result<void> run_text(std::span<const int32_t> ids, const LogitsUse& use,
                        const Observer* observer = nullptr);

 private:
  Runner(const Plan& plan, const Model& model, Device& device);
  void fill_batch(std::span<const BatchEntry> entries);

  const Plan& plan_;
  const Model& model_;
  Device& device_;
  PagePool pages_;
  Buffer kv_buffer_;
  Buffer work_buffer_;
  Workspace workspace_;
  Batch batch_;
  std::vector<float> host_logits_;  // [max_logit_rows, vocab_size]
};

}  // namespace quench
