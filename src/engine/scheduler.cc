#include "engine/scheduler.h"

#include <algorithm>
#include <bit>

#include "base/bytes.h"
#include "base/check.h"
#include "devices/ops.h"
#include "plan/plan.h"

namespace quench {

Sequence* Scheduler::find(RequestId id) {
  for (const auto& sequence : running_) {
    if (sequence->id == id) return sequence.get();
  }
  for (const auto& sequence : waiting_) {
    if (sequence->id == id) return sequence.get();
  }
  return nullptr;
}

std::vector<Sequence*> Scheduler::cancelled() const {
  std::vector<Sequence*> found;
  for (const auto& sequence : running_) {
    if (sequence->cancelled) found.push_back(sequence.get());
  }
  for (const auto& sequence : waiting_) {
    if (sequence->cancelled) found.push_back(sequence.get());
  }
  return found;
}

void Scheduler::remove(const Sequence* sequence) {
  const auto matches = [&](const auto& other) { return other.get() == sequence; };
  if (const auto it = std::find_if(running_.begin(), running_.end(), matches);
      it != running_.end()) {
    pool_.release((*it)->state);
    running_.erase(it);
    return;
  }
  const auto it = std::find_if(waiting_.begin(), waiting_.end(), matches);
  QUENCH_CHECK(it != waiting_.end(), "the scheduler does not know the sequence");
  waiting_.erase(it);
}

std::span<Sequence* const> Scheduler::schedule() {
  admit();
  reserve_pages(share_tokens());
  scheduled_.clear();
  for (const auto& sequence : running_) {
    if (!sequence->input.empty()) scheduled_.push_back(sequence.get());
  }
  add_drafts();
  return scheduled_;
}

void Scheduler::keep_pages(Sequence& sequence) {
  if (!limits_.reuse_prefixes) return;
  const int64_t num_full = sequence.state.num_cached / kPageTokens;
  for (int64_t page = sequence.num_before / kPageTokens; page < num_full; ++page)
    pool_.keep(sequence.state.pages[static_cast<size_t>(page)], key_of(sequence, page));
}

const PageKey& Scheduler::key_of(Sequence& sequence, int64_t page) {
  std::vector<PageKey>& keys = sequence.page_keys;
  while (static_cast<int64_t>(keys.size()) <= page) {
    const size_t begin = keys.size() * kPageTokens;
    keys.push_back(page_key(keys.empty() ? root_key(sequence.state.rope_table) : keys.back(),
                            std::span(sequence.tokens).subspan(begin, kPageTokens)));
  }
  return keys[static_cast<size_t>(page)];
}

// Goes on from the cached tokens with kept pages, as far as there are any; at least one token stays
// to be computed, for its logits. Returns how many tokens were found. Also in the middle of a
// prompt: the same beginning may have been computed by another sequence in the meantime.
int64_t Scheduler::reuse_prefix(Sequence& sequence) {
  SequenceState& state = sequence.state;
  const int64_t before = state.num_cached;
  while (limits_.reuse_prefixes && state.num_cached % kPageTokens == 0 &&
         state.num_cached + kPageTokens < sequence.num_tokens()) {
    const int64_t index = state.num_cached / kPageTokens;
    const auto page = pool_.find(key_of(sequence, index));
    if (!page) break;
    pool_.hold(*page);
    if (index < static_cast<int64_t>(state.pages.size())) {  // reserved, nothing in it yet
      pool_.give_back(state.pages[static_cast<size_t>(index)]);
      state.pages[static_cast<size_t>(index)] = *page;
    } else {
      state.pages.push_back(*page);
    }
    state.num_cached += kPageTokens;
  }
  return state.num_cached - before;
}

// In order of arrival. A page per running sequence stays free, so that a newcomer is not sent away
// again at once.
void Scheduler::admit() {
  while (!waiting_.empty() && num_running() < limits_.max_sequences) {
    Sequence& next = *waiting_.front();
    const int64_t reused = reuse_prefix(next);
    const int64_t chunk = std::min(next.num_pending(), limits_.max_tokens);
    const int64_t needed = ceil_div(next.state.num_cached + chunk, kPageTokens) -
                           static_cast<int64_t>(next.state.pages.size());
    if (num_running() > 0 && pool_.num_free() < needed + num_running()) {
      pool_.release(next.state);
      return;
    }
    const bool reserved = pool_.reserve(next.state, next.state.num_cached + chunk);
    QUENCH_CHECK(reserved, "{} pages for a sequence that is alone", pool_.num_pages());
    counters_.reused_tokens += reused;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

// Tokens of the step for each running sequence. First those that need one token, who are
// generating. Of what is left the oldest prompt has half for sure, so that it gets on whatever
// comes behind it; the rest goes to the prompts with the least left to compute, equal up to a
// factor of two counting as equal, and the older of two equals first. So a short prompt does not
// wait for a long one, and equal ones do not slow each other down.
std::vector<int64_t> Scheduler::share_tokens() {
  struct Prompt {
    size_t index;
    int64_t pending;
  };
  std::vector<int64_t> shares(running_.size(), 0);
  std::vector<Prompt> prompts;
  int64_t room = limits_.max_tokens;
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& sequence = *running_[i];
    counters_.reused_tokens += reuse_prefix(sequence);
    if (sequence.num_pending() == 1) {
      shares[i] = 1;
      --room;
    } else {
      prompts.push_back({i, sequence.num_pending()});
    }
  }
  if (prompts.empty()) return shares;
  const auto give = [&](Prompt& prompt, int64_t most) {
    const int64_t count = std::min(prompt.pending, most);
    shares[prompt.index] += count;
    prompt.pending -= count;
    room -= count;
  };
  const auto size_class = [](const Prompt& prompt) {
    return std::bit_width(static_cast<uint64_t>(prompt.pending));
  };
  std::vector<Prompt> order = prompts;
  std::stable_sort(order.begin(), order.end(),
                   [&](const Prompt& a, const Prompt& b) { return size_class(a) < size_class(b); });
  const auto oldest = std::find_if(order.begin(), order.end(), [&](const Prompt& prompt) {
    return prompt.index == prompts.front().index;
  });
  give(*oldest, ceil_div(room, 2));
  for (Prompt& prompt : order) give(prompt, room);
  return shares;
}

// Turns shares into inputs, the oldest first. A sequence without a page for even one token takes
// one from the youngest; the youngest itself stands still for this step.
void Scheduler::reserve_pages(std::vector<int64_t> shares) {
  for (const auto& sequence : running_) {
    sequence->input.clear();
    sequence->num_drafts = 0;
  }
  for (size_t i = 0; i < running_.size(); ++i) {  // which may get shorter
    if (shares[i] == 0) continue;
    Sequence& sequence = *running_[i];
    SequenceState& state = sequence.state;
    const auto capacity = [&] {
      return (static_cast<int64_t>(state.pages.size()) + pool_.num_free()) * kPageTokens -
             state.num_cached;
    };
    while (capacity() == 0 && i + 1 < running_.size()) preempt_youngest();
    const int64_t count = std::min(shares[i], capacity());
    pool_.reserve(state, state.num_cached + count);
    sequence.num_before = state.num_cached;
    const auto begin = sequence.tokens.begin() + state.num_cached;
    sequence.input.assign(begin, begin + count);
  }
}

void Scheduler::preempt_youngest() {
  pool_.release(running_.back()->state);
  running_.back()->input.clear();
  waiting_.push_front(std::move(running_.back()));
  running_.pop_back();
  ++counters_.preemptions;
}

// A few rows more are nearly free in a step that is bound by reading the weights: one with few
// sequences and no prompt.
void Scheduler::add_drafts() {
  const auto num_sequences = static_cast<int64_t>(scheduled_.size());
  if (limits_.max_drafts == 0 || num_sequences > kMaxSpeculatingSequences) return;
  for (const Sequence* sequence : scheduled_) {
    if (sequence->num_pending() > 1) return;
  }
  int64_t room = limits_.max_tokens - num_sequences;
  for (Sequence* sequence : scheduled_) {
    SequenceState& state = sequence->state;
    const int64_t length = state.num_cached + 1;
    const int64_t capacity =
        (static_cast<int64_t>(state.pages.size()) + pool_.num_free()) * kPageTokens - length;
    const int64_t most =
        std::min({limits_.max_drafts, room, capacity, sequence->max_cached() - length});
    const std::vector<int32_t> draft =
        look_up_draft(sequence->tokens, sequence->draft_length.next(most));
    sequence->num_drafts = static_cast<int64_t>(draft.size());
    room -= sequence->num_drafts;
    sequence->input.insert(sequence->input.end(), draft.begin(), draft.end());
    pool_.reserve(state, length + sequence->num_drafts);
  }
}

}  // namespace quench
