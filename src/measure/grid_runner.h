// GridRunner: runs prefill or decode of a loaded model alone, without tokenizer, sampler and
// scheduler, and says how long each may take at best. Owns its caches; the session must outlive it.
// One thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/session.h"
#include "plan/roofline.h"

namespace quench {

struct GridRow {
  bool is_prefill = false;
  int64_t tokens = 0;  // of each sequence
  int64_t depth = 0;
  int64_t batch = 1;
  std::vector<double> tok_s;           // one per repetition, of all sequences together
  std::vector<double> expected_tok_s;  // what a slice said in turns with each; empty: not asked
  double read_bytes_per_token = 0.0;   // weights and cache, over all tokens of the row
  double limit_tok_s = 0.0;
  double usual_limit_tok_s = 0.0;  // by the medians of the ceilings
  const char* bound = "";          // what limits most of the time: "memory" or "compute"

  double median_tok_s() const;
  double best_tok_s() const;
  // Expected over measured time less 1, the median over the repetitions; null: not asked.
  std::optional<double> expected_error() const;
};

class GridRunner {
 public:
  GridRunner(const Session& session, std::unique_ptr<Runner> runner, uint64_t seed)
      : session_(session), runner_(std::move(runner)), seed_(seed) {}

  // When it becomes true, a row ends after the step that runs; its time then means nothing.
  void stop_by(const std::atomic<bool>* flag) { stop_ = flag; }
  // Seconds for the row's tokens; filling the caches is not counted. They fit the session's plan.
  double run(const GridRow& row);
  // Of all steps of the row together.
  PassLimit limit(const GridRow& row, const Ceilings& ceilings) const;
  void set_limit(const Ceilings& ceilings, GridRow& row) const;
  // [rows, vocab_size] of the last step; valid until the next run.
  std::span<const float> logits() const { return logits_; }

 private:
  // Tokens [begin, begin + count) of every sequence of the row.
  struct Step {
    int64_t begin;
    int64_t count;
    bool wants_logits;  // of the last of them
  };

  void for_each_step(const GridRow& row, const std::function<void(const Step&)>& use) const;
  PassLimit step_limit(const GridRow& row, const Step& step, const Ceilings& ceilings) const;
  std::vector<int32_t> draw_ids(int64_t count) const;

  const Session& session_;
  std::unique_ptr<Runner> runner_;
  uint64_t seed_;
  const std::atomic<bool>* stop_ = nullptr;
  std::span<const float> logits_;
};

}  // namespace quench
