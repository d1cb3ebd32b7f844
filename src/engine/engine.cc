// The engine: the scheduler decides a step, the runner computes it, the sampler draws from its
// rows of logits.
#include "quench/engine.h"

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"
#include "engine/runner.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/session.h"

namespace quench {

class Engine::Impl {
 public:
  Impl(std::unique_ptr<Runner> runner, int64_t vocab_size, bool reuse_prefixes, PackMore pack_more)
      : runner_(std::move(runner)),
        vocab_size_(vocab_size),
        pack_more_(std::move(pack_more)),
        scheduler_({plan().limits.max_tokens, plan().max_batch_size, plan().max_draft_tokens,
                    reuse_prefixes},
                   runner_->pages()) {}

  Result<RequestId> submit(Request request) {
    QUENCH_TRY_VOID(validate(request.sampling));
    const auto length = static_cast<int64_t>(request.prompt.size());
    if (length == 0)
      return fail(ErrorCode::kInvalidArgument,
                  "The prompt is empty; at least one token is needed.");
    if (length >= plan().max_seq_len) {
      return fail(ErrorCode::kInvalidArgument,
                  "The prompt has {} tokens; with a context of {} at most {} fit. Raise "
                  "--max-seq-len or shorten it.",
                  length, plan().max_seq_len, plan().max_seq_len - 1);
    }
    for (const int32_t id : request.prompt) {
      if (id >= 0 && id < plan().config.vocab_size) continue;
      return fail(ErrorCode::kInvalidArgument, "Token id {} is outside the vocabulary of {} rows.",
                  id, plan().config.vocab_size);
    }
    auto sequence = std::make_unique<Sequence>();
    sequence->num_prompt = length;
    sequence->sampling = std::move(request.sampling);
    sequence->sampling.max_new_tokens = static_cast<int>(
        std::min<int64_t>(sequence->sampling.max_new_tokens, plan().max_seq_len - length));
    const int64_t room = plan().num_pages * kPageTokens;
    if (sequence->max_cached() > room) {
      return fail(ErrorCode::kInvalidArgument,
                  "The prompt has {} tokens and max_new_tokens is {}; keys and values have room "
                  "for {} tokens in all. Raise --kv-tokens or ask for less.",
                  length, sequence->sampling.max_new_tokens, room);
    }
    sequence->id = next_id_++;
    sequence->tokens = std::move(request.prompt);
    sequence->state.rope_table = rope_table_for(plan().config, length);
    scheduler_.add(std::move(sequence));
    return next_id_ - 1;
  }

  std::span<const Event> step() {
    events_.clear();
    for (const Sequence* sequence : scheduler_.cancelled()) {
      events_.push_back({sequence->id, -1, true, FinishReason::kCancelled, "", now_s()});
      scheduler_.remove(sequence);
    }
    // Whoever waits for a first token waits for nothing else.
    if (pack_more_ && pack_s_ > 0.0 && !pack_more_(pack_s_)) pack_more_ = nullptr;
    const double start_s = now_s();
    run(scheduler_.schedule());
    if (!events_.empty()) pack_s_ = now_s() - start_s;
    return events_;
  }

  void cancel(RequestId id) {
    if (Sequence* sequence = scheduler_.find(id)) sequence->cancelled = true;
  }

  bool idle() const { return scheduler_.num_waiting() + scheduler_.num_running() == 0; }

  EngineStatus status() const {
    const PagePool& pages = runner_->pages();
    EngineStatus status;
    status.waiting = scheduler_.num_waiting();
    status.running = scheduler_.num_running();
    status.pages_total = pages.num_pages();
    status.pages_free = pages.num_free();
    status.cached_tokens = pages.num_kept() * kPageTokens;
    status.computed_tokens = computed_tokens_;
    status.reused_tokens = scheduler_.counters().reused_tokens;
    status.preemptions = scheduler_.counters().preemptions;
    status.drafted_tokens = drafted_tokens_;
    status.accepted_tokens = accepted_tokens_;
    return status;
  }

  void own(std::unique_ptr<Session> session) { session_ = std::move(session); }

 private:
  const Plan& plan() const { return runner_->plan(); }

  void run(std::span<Sequence* const> sequences) {
    if (sequences.empty()) return;
    entries_.clear();
    for (Sequence* sequence : sequences) {
      entries_.push_back(
          {&sequence->state, sequence->input, sequence->draws() ? 1 + sequence->num_drafts : 0});
      computed_tokens_ += static_cast<int64_t>(sequence->input.size());
    }
    std::span<float> logits = runner_->run(entries_);
    const auto width = static_cast<size_t>(plan().config.vocab_size);
    finished_.clear();
    for (size_t i = 0; i < sequences.size(); ++i) {
      Sequence& sequence = *sequences[i];
      const size_t rows = static_cast<size_t>(entries_[i].num_logits) * width;
      if (rows > 0) draw(sequence, logits.first(rows));
      scheduler_.keep_pages(sequence);
      logits = logits.subspan(rows);
    }
    for (const Sequence* sequence : finished_) scheduler_.remove(sequence);
  }

  // One token from each row, as long as it is the one that the next row was computed for. What
  // the wrong rest of a draft has left in the pages is written over later.
  void draw(Sequence& sequence, std::span<float> logits) {
    const size_t width = static_cast<size_t>(plan().config.vocab_size);
    int64_t accepted = 0;
    bool more = true;
    while (more) {
      more = draw_one(sequence, logits.subspan(static_cast<size_t>(accepted) * width, width)) &&
             accepted < sequence.num_drafts &&
             sequence.tokens.back() == sequence.input[static_cast<size_t>(1 + accepted)];
      if (more) ++accepted;
    }
    sequence.state.num_cached = sequence.num_tokens() - 1;
    if (sequence.num_drafts == 0) return;
    sequence.draft_length.verified(sequence.num_drafts, accepted);
    drafted_tokens_ += sequence.num_drafts;
    accepted_tokens_ += accepted;
  }

  // Returns whether the sequence goes on.
  bool draw_one(Sequence& sequence, std::span<float> logits) {
    const auto token = sample(
        sequence.sampling,
        {logits, vocab_size_, sequence.prompt(), sequence.generated(), sequence.num_tokens()},
        scratch_);
    if (!token) {
      events_.push_back(
          {sequence.id, -1, true, FinishReason::kError, token.error().message, now_s()});
      finished_.push_back(&sequence);
      return false;
    }
    sequence.tokens.push_back(*token);
    Event event = {sequence.id, *token, false, FinishReason::kStop, "", now_s()};
    const auto& stops = sequence.sampling.stop_token_ids;
    if (std::find(stops.begin(), stops.end(), *token) != stops.end()) {
      event.finished = true;
    } else if (sequence.num_generated() >= sequence.sampling.max_new_tokens) {
      event.finished = true;
      event.reason = FinishReason::kLength;
    }
    if (event.finished) finished_.push_back(&sequence);
    const bool goes_on = !event.finished;
    events_.push_back(std::move(event));
    return goes_on;
  }

  std::unique_ptr<Session> session_;  // when the engine has opened the model itself
  std::unique_ptr<Runner> runner_;
  const int64_t vocab_size_;
  PackMore pack_more_;   // null: all is packed
  double pack_s_ = 0.0;  // what the last step that drew a token took
  Scheduler scheduler_;
  RequestId next_id_ = 1;
  std::vector<BatchEntry> entries_;
  std::vector<Event> events_;
  std::vector<const Sequence*> finished_;
  SamplerScratch scratch_;
  int64_t computed_tokens_ = 0;
  int64_t drafted_tokens_ = 0;
  int64_t accepted_tokens_ = 0;
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options) {
  QUENCH_TRY(const SessionOptions session_options, to_session_options(options));
  QUENCH_TRY(auto session, Session::open(session_options));
  QUENCH_TRY(auto engine, session->make_engine(options.reuse_prefixes));
  engine->impl_->own(std::move(session));
  return engine;
}

Result<std::unique_ptr<Engine>> make_engine(const Plan& plan, const Model& model, Device& device,
                                            int64_t vocab_size, bool reuse_prefixes,
                                            PackMore pack_more) {
  QUENCH_TRY(auto runner, Runner::create(plan, model, device));
  const int64_t rows = std::min(vocab_size, plan.config.vocab_size);
  return std::make_unique<Engine>(std::make_unique<Engine::Impl>(
      std::move(runner), rows, reuse_prefixes, std::move(pack_more)));
}

Result<RequestId> Engine::submit(Request request) { return impl_->submit(std::move(request)); }
std::span<const Event> Engine::step() { return impl_->step(); }
void Engine::cancel(RequestId id) { impl_->cancel(id); }
bool Engine::idle() const { return impl_->idle(); }
EngineStatus Engine::status() const { return impl_->status(); }

}  // namespace quench
