#include "measure/bench_run.h"

#include <algorithm>

#include "base/clock.h"

namespace quench {

bool BenchRun::counts_differ() const {
  const auto pieces = static_cast<int64_t>(token_s.size());
  return reported_tokens && *reported_tokens != pieces && *reported_tokens != pieces + 1;
}

std::optional<double> BenchRun::decode_tok_s() const {
  if (token_s.size() < 2 || token_s.back() <= token_s.front()) return std::nullopt;
  const auto pieces = static_cast<int64_t>(token_s.size());
  const int64_t tokens = counts_differ() ? generated_tokens : pieces;
  return static_cast<double>(tokens - 1) / (token_s.back() - token_s.front());
}

std::optional<double> BenchRun::tpot_s() const {
  const auto rate = decode_tok_s();
  return rate ? std::optional(1.0 / *rate) : std::nullopt;
}

std::optional<double> BenchRun::prefill_tok_s() const {
  if (token_s.empty() || !prompt_tokens || ttft_s <= 0.0) return std::nullopt;
  return static_cast<double>(*prompt_tokens) / ttft_s;
}

std::optional<double> BenchRun::e2e_at_length_s(double tokens) const {
  const auto tpot = tpot_s();
  return tpot ? std::optional(ttft_s + (tokens - 1.0) * *tpot) : std::nullopt;
}

Result<void> InFlight::submit(const BenchRequest& request, BenchRun run) {
  run.seed = request.sampling.seed;
  run.start_s = now_s();
  QUENCH_TRY(const int64_t id, target_.submit(request));
  runs_.emplace(id, std::move(run));
  return {};
}

Result<std::vector<BenchRun>> InFlight::poll(double until_s) {
  QUENCH_TRY(const std::span<const BenchEvent> events, target_.poll(until_s));
  std::vector<BenchRun> ended;
  for (const BenchEvent& event : events) {
    const auto it = runs_.find(event.request);
    if (it == runs_.end()) continue;
    BenchRun& run = it->second;
    if (event.is_token) {
      run.token_s.push_back(event.time_s - run.start_s);
      if (event.engine_time_s) run.engine_token_s.push_back(*event.engine_time_s - run.start_s);
    }
    run.text += event.text;
    if (!event.finished) continue;
    run.e2e_s = event.time_s - run.start_s;
    run.finish_reason = event.reason;
    run.prompt_tokens = event.prompt_tokens;
    run.reported_tokens = event.generated_tokens;
    run.generated_tokens =
        std::max(static_cast<int64_t>(run.token_s.size()), event.generated_tokens.value_or(0));
    if (!run.token_s.empty()) run.ttft_s = run.token_s.front();
    if (event.reason == FinishReason::kError)
      run.error = event.message.empty() ? "The request failed." : event.message;
    ended.push_back(std::move(run));
    runs_.erase(it);
  }
  return ended;
}

void InFlight::cancel() {
  for (const auto& [id, run] : runs_) target_.cancel(id);
}

}  // namespace quench
