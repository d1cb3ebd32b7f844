// Runner: a model with its KV cache and workspace, one forward pass at a time. The engine schedules
// on top of it; evaluation and golden tests use it directly. One thread drives it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "models/blocks.h"
#include "plan/plan.h"

namespace quench {

// Free pages of the KV cache. A page id is valid in every layer.
class PagePool {
 public:
  explicit PagePool(int64_t num_pages);
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }
  int64_t num_pages() const { return num_pages_; }
  // The caller checked num_free().
  int32_t take();
  void give_back(int32_t page);

 private:
  int64_t num_pages_;
  std::vector<int32_t> free_;
};

// What the engine knows of one sequence's memory.
struct SequenceState {
  std::vector<int32_t> pages;  // page of each 64-token block
  int64_t num_cached = 0;      // tokens whose keys and values are stored
  int32_t rope_table = 0;
};

// One sequence's part of a batch: tokens [num_cached, num_cached + tokens.size()) of it.
struct BatchEntry {
  SequenceState* state;
  std::span<const int32_t> tokens;
  bool wants_all_logits = false;   // of every token; otherwise
  bool wants_last_logits = false;  // of the last
};

class Runner {
 public:
  static Result<std::unique_ptr<Runner>> create(const Plan& plan, const Model& model,
                                                Device& device);

  PagePool& pages() { return pages_; }
  const Plan& plan() const { return plan_; }
  const ModelConfig& config() const { return plan_.config; }

  // Takes pages so that `state` can hold num_tokens; false when the pool has too few (then nothing
  // is taken).
  bool reserve(SequenceState& state, int64_t num_tokens);
  void release(SequenceState& state);

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
