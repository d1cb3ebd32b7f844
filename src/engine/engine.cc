// The scheduler: continuous batching, first come first served. A step takes one token of every
// running sequence, then prompt chunks until the step is full. Decisions depend on the requests
// alone, so replays agree.
#include "quench/engine.h"

#include <algorithm>
#include <deque>
#include <list>

#include "base/check.h"
#include "base/clock.h"
#include "engine/runner.h"
#include "engine/sampler.h"

namespace quench {
namespace {

struct Sequence {
  RequestId id;
  SamplingSettings sampling;
  std::vector<int32_t> tokens;  // prompt, then what was generated
  int64_t num_prompt;
  SequenceState state;

  std::span<const int32_t> prompt() const {
    return {tokens.data(), static_cast<size_t>(num_prompt)};
  }
  std::span<const int32_t> generated() const {
    return std::span(tokens).subspan(static_cast<size_t>(num_prompt));
  }
  std::span<const int32_t> uncached() const {
    return std::span(tokens).subspan(static_cast<size_t>(state.num_cached));
  }
  // Most tokens whose keys and values will ever be stored: the last drawn one is never fed.
  int64_t max_cached() const { return num_prompt + sampling.max_new_tokens - 1; }
};

}  // namespace

class Engine::Impl {
 public:
  Impl(std::unique_ptr<Runner> runner, int64_t vocab_size)
      : runner_(std::move(runner)), vocab_size_(vocab_size) {}

  Result<RequestId> submit(Request request) {
    const Plan& plan = runner_->plan();
    QUENCH_TRY_VOID(validate(request.sampling));
    const auto length = static_cast<int64_t>(request.prompt.size());
    if (length == 0)
      return fail(ErrorCode::kInvalidArgument,
                  "The prompt is empty; at least one token is needed.");
    if (length >= plan.max_seq_len) {
      return fail(ErrorCode::kInvalidArgument,
                  "The prompt has {} tokens; with a context of {} at most {} fit. Raise "
                  "--max-seq-len or shorten it.",
                  length, plan.max_seq_len, plan.max_seq_len - 1);
    }
    for (const int32_t id : request.prompt) {
      if (id >= 0 && id < plan.config.vocab_size) continue;
      return fail(ErrorCode::kInvalidArgument, "Token id {} is outside the vocabulary of {} rows.",
                  id, plan.config.vocab_size);
    }
    Sequence sequence;
    sequence.id = next_id_++;
    sequence.num_prompt = length;
    sequence.sampling = std::move(request.sampling);
    sequence.sampling.max_new_tokens = static_cast<int>(
        std::min<int64_t>(sequence.sampling.max_new_tokens, plan.max_seq_len - length));
    sequence.tokens = std::move(request.prompt);
    sequence.state.rope_table = rope_table_for(plan.config, length);
    waiting_.push_back(std::move(sequence));
    return waiting_.back().id;
  }

  std::span<const Event> step() {
    events_.clear();
    finish_cancelled();
    admit();
    schedule();
    if (!entries_.empty()) run();
    return events_;
  }

  void cancel(RequestId id) { cancelled_.push_back(id); }
  bool idle() const { return waiting_.empty() && running_.empty() && cancelled_.empty(); }
  EngineStatus status() const {
    return {static_cast<int64_t>(waiting_.size()), static_cast<int64_t>(running_.size()),
            runner_->pages().num_pages(), runner_->pages().num_free()};
  }

 private:
  void finish_cancelled() {
    for (const RequestId id : cancelled_) {
      const auto matches = [id](const Sequence& sequence) { return sequence.id == id; };
      if (const auto it = std::find_if(running_.begin(), running_.end(), matches);
          it != running_.end()) {
        runner_->release(it->state);
        running_.erase(it);
      } else if (const auto queued = std::find_if(waiting_.begin(), waiting_.end(), matches);
                 queued != waiting_.end()) {
        waiting_.erase(queued);
      } else {
        continue;
      }
      events_.push_back({id, -1, true, FinishReason::kCancelled, "", now_s()});
    }
    cancelled_.clear();
  }

  // In order of arrival; a sequence starts only when all the pages it can ever need are free, so it
  // never stalls.
  void admit() {
    while (!waiting_.empty() &&
           static_cast<int64_t>(running_.size()) < runner_->plan().max_batch_size) {
      if (!runner_->reserve(waiting_.front().state, waiting_.front().max_cached())) return;
      running_.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
  }

  void schedule() {
    entries_.clear();
    scheduled_.clear();
    // Every sequence may take at least one token: max_tokens >= max_batch_size.
    int64_t room = runner_->plan().limits.max_tokens;
    auto left = static_cast<int64_t>(running_.size());
    for (Sequence& sequence : running_) {
      --left;
      const std::span<const int32_t> pending = sequence.uncached();
      const int64_t count = std::min<int64_t>(static_cast<int64_t>(pending.size()), room - left);
      const bool complete = count == static_cast<int64_t>(pending.size());
      entries_.push_back(
          {&sequence.state, pending.first(static_cast<size_t>(count)), false, complete});
      scheduled_.push_back(&sequence);
      room -= count;
    }
  }

  void run() {
    const std::span<float> logits = runner_->run(entries_);
    const int64_t width = runner_->config().vocab_size;
    int64_t row = 0;
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (!entries_[i].wants_last_logits) continue;
      draw(*scheduled_[i],
           logits.subspan(static_cast<size_t>(row++ * width), static_cast<size_t>(width)));
    }
    running_.remove_if([](const Sequence& sequence) { return sequence.id < 0; });
  }

  void draw(Sequence& sequence, std::span<float> logits) {
    const auto position = static_cast<int64_t>(sequence.tokens.size());
    const auto token =
        sample(sequence.sampling,
               {logits, vocab_size_, sequence.prompt(), sequence.generated(), position}, scratch_);
    if (!token) {
      finish(sequence,
             {sequence.id, -1, true, FinishReason::kError, token.error().message, now_s()});
      return;
    }
    sequence.tokens.push_back(*token);
    Event event = {sequence.id, *token, false, FinishReason::kStop, "", now_s()};
    const auto& stops = sequence.sampling.stop_token_ids;
    const auto generated = static_cast<int64_t>(sequence.generated().size());
    if (std::find(stops.begin(), stops.end(), *token) != stops.end()) {
      event.finished = true;
    } else if (generated >= sequence.sampling.max_new_tokens) {
      event.finished = true;
      event.reason = FinishReason::kLength;
    }
    if (event.finished) {
      finish(sequence, std::move(event));
    } else {
      events_.push_back(std::move(event));
    }
  }

  // Marks the sequence for removal; `scheduled_` still points at it.
  void finish(Sequence& sequence, Event event) {
    runner_->release(sequence.state);
    events_.push_back(std::move(event));
    sequence.id = -1;
  }

  std::unique_ptr<Runner> runner_;
  int64_t vocab_size_;
  RequestId next_id_ = 1;
  std::deque<Sequence> waiting_;
  std::list<Sequence> running_;  // stable addresses: entries_ point into it
  std::vector<RequestId> cancelled_;
  std::vector<BatchEntry> entries_;
  std::vector<Sequence*> scheduled_;
  std::vector<Event> events_;
  SamplerScratch scratch_;
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::open(const Plan& plan, const Model& model, Device& device,
                                             int64_t vocab_size) {
  QUENCH_TRY(auto runner, Runner::create(plan, model, device));
  const int64_t rows = std::min(vocab_size, plan.config.vocab_size);
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(std::move(runner), rows)));
}

Result<RequestId> Engine::submit(Request request) { return impl_->submit(std::move(request)); }
std::span<const Event> Engine::step() { return impl_->step(); }
void Engine::cancel(RequestId id) { impl_->cancel(id); }
bool Engine::idle() const { return impl_->idle(); }
EngineStatus Engine::status() const { return impl_->status(); }

}  // namespace quench
