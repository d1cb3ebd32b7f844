// Scheduler: which sequences take how many tokens in the next step, and who holds which pages.
// Its decisions depend on what was submitted, drawn and cancelled, never on times, so that ranks
// and replays agree. One thread drives it.
//
// Sequences are ordered by arrival, and those that run always arrived before those that wait. A
// sequence starts when the next chunk of its prompt fits. When pages run out, the youngest that
// runs gives its pages back and waits again; what it has generated is kept and computed anew, or
// found again among the kept pages. So the oldest always gets on.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "engine/page_pool.h"
#include "engine/speculation.h"
#include "quench/engine.h"

namespace quench {

struct Sequence {
  RequestId id = 0;
  SamplingSettings sampling;
  std::vector<int32_t> tokens;  // prompt, then what was generated
  int64_t num_prompt = 0;
  SequenceState state;
  DraftLength draft_length;
  std::vector<PageKey> page_keys;  // of the first full pages, as far as they were asked for
  bool cancelled = false;

  // The step that the scheduler has decided: tokens from state.num_cached on, then drafts.
  std::vector<int32_t> input;
  int64_t num_drafts = 0;
  int64_t num_before = 0;  // state.num_cached before the step

  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_generated() const { return num_tokens() - num_prompt; }
  int64_t num_pending() const { return num_tokens() - state.num_cached; }
  // Whether the step's input reaches the last token, so that the next one can be drawn.
  bool draws() const {
    return static_cast<int64_t>(input.size()) - num_drafts == num_pending() && !input.empty();
  }
  std::span<const int32_t> prompt() const {
    return {tokens.data(), static_cast<size_t>(num_prompt)};
  }
  std::span<const int32_t> generated() const {
    return std::span(tokens).subspan(static_cast<size_t>(num_prompt));
  }
  // Most tokens whose keys and values will ever be stored: the last drawn one is never fed.
  int64_t max_cached() const { return num_prompt + sampling.max_new_tokens - 1; }
};

struct SchedulerLimits {
  int64_t max_tokens = 1;     // per step, at least max_sequences
  int64_t max_sequences = 1;  // at once
  int64_t max_drafts = 0;     // per sequence and step; 0: no speculation
  bool reuse_prefixes = true;
};

struct SchedulerCounters {
  int64_t reused_tokens = 0;  // whose keys and values were found instead of computed
  int64_t preemptions = 0;
};

class Scheduler {
 public:
  // The pool must outlive the scheduler.
  Scheduler(const SchedulerLimits& limits, PagePool& pool) : limits_(limits), pool_(pool) {}

  void add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }
  Sequence* find(RequestId id);
  // Of all sequences, in order of arrival.
  std::vector<Sequence*> cancelled() const;
  // Gives its pages back and forgets it.
  void remove(const Sequence* sequence);

  // Decides the next step and reserves its pages. Valid until the next call of any method but
  // keep_pages(); the sequences' inputs are not empty.
  std::span<Sequence* const> schedule();
  // After a step: registers the pages that it has filled.
  void keep_pages(Sequence& sequence);

  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  const SchedulerCounters& counters() const { return counters_; }

 private:
  const PageKey& key_of(Sequence& sequence, int64_t page);
  int64_t reuse_prefix(Sequence& sequence);
  void admit();
  std::vector<int64_t> share_tokens();
  void reserve_pages(std::vector<int64_t> shares);
  void preempt_youngest();
  void add_drafts();

  const SchedulerLimits limits_;
  PagePool& pool_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<Sequence*> scheduled_;
  SchedulerCounters counters_;
};

}  // namespace quench
