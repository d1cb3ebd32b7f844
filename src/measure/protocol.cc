#include "measure/protocol.h"

#include <algorithm>

#include "base/clock.h"

namespace quench {

std::optional<double> BenchRun::decode_tok_s() const {
  if (token_s.size() < 2 || token_s.back() <= token_s.front()) return std::nullopt;
  return static_cast<double>(token_s.size() - 1) / (token_s.back() - token_s.front());
}

std::optional<double> BenchRun::prefill_tok_s() const {
  if (token_s.empty() || !prompt_tokens || ttft_s <= 0.0) return std::nullopt;
  return static_cast<double>(*prompt_tokens) / ttft_s;
}

std::vector<double> counted(const std::vector<TaskRuns>& tasks,
                            const std::function<std::optional<double>(const BenchRun&)>& value) {
  std::vector<double> result;
  for (const TaskRuns& task : tasks) {
    for (const BenchRun& run : task.runs) {
      if (run.warmup) continue;
      if (const auto number = value(run)) result.push_back(*number);
    }
  }
  return result;
}

SpeedSummary summarize_speed(const std::vector<TaskRuns>& tasks) {
  using Value = std::optional<double>;
  auto summary = [&](auto value) { return summarize(counted(tasks, value)); };
  return {summary([](const BenchRun& run) { return run.decode_tok_s(); }),
          summary([](const BenchRun& run) { return run.prefill_tok_s(); }),
          summary([](const BenchRun& run) { return run.token_s.empty() ? Value() : run.ttft_s; }),
          summary([](const BenchRun& run) { return Value(run.e2e_s); })};
}

Result<BenchRun> measure_run(BenchTarget& target, const BenchRequest& request,
                             const std::atomic<bool>* stop) {
  BenchRun run;
  run.seed = request.sampling.seed;
  const double start_s = now_s();
  QUENCH_TRY(const int64_t id, target.submit(request));
  bool running = true;
  bool cancelled = false;
  std::string message;
  while (running) {
    if (!cancelled && stop != nullptr && stop->load(std::memory_order_relaxed)) {
      target.cancel(id);
      cancelled = true;
    }
    QUENCH_TRY(const std::span<const BenchEvent> events, target.poll());
    for (const BenchEvent& event : events) {
      if (event.request != id) continue;
      if (event.is_token) {
        run.token_s.push_back(event.time_s - start_s);
        if (event.engine_time_s) run.engine_token_s.push_back(*event.engine_time_s - start_s);
      }
      run.text += event.text;
      if (!event.finished) continue;
      running = false;
      run.e2e_s = event.time_s - start_s;
      run.finish_reason = event.reason;
      run.prompt_tokens = event.prompt_tokens;
      message = event.message;
    }
  }
  run.generated_tokens = static_cast<int64_t>(run.token_s.size());
  if (!run.token_s.empty()) run.ttft_s = run.token_s.front();
  if (run.finish_reason == FinishReason::kCancelled)
    return fail(ErrorCode::kCancelled, "The measurement was stopped.");
  if (run.finish_reason == FinishReason::kError) return fail(ErrorCode::kInternal, "{}", message);
  return run;
}

Result<void> run_protocol(const std::vector<BenchTarget*>& targets, const Protocol& protocol,
                          const ProtocolOptions& options,
                          std::vector<std::vector<TaskRuns>>& results,
                          const std::function<void(const RunProgress&)>& progress) {
  const ProtocolLength& length = options.length;
  const int64_t rounds = length.warmups + length.runs;
  const auto num_targets = static_cast<int64_t>(targets.size());
  const int64_t total = rounds * num_targets * static_cast<int64_t>(options.tasks.size());
  results.assign(targets.size(), {});
  int64_t done = 0;
  for (const Task& task : options.tasks) {
    BenchRequest request;
    QUENCH_TRY(request.prompt, task.prompt(options.lang));
    QUENCH_TRY(request.sampling, protocol.settings(task, length));
    for (auto& result : results) result.push_back({task.name, options.lang, {}});
    for (int64_t round = 0; round < rounds; ++round) {
      const bool warmup = round < length.warmups;
      // Warm-ups take seeds of their own, so that every counted run is new to a cache.
      request.sampling.seed =
          options.first_seed +
          static_cast<uint64_t>(warmup ? length.runs + round : round - length.warmups);
      for (int64_t i = 0; i < num_targets; ++i) {
        const auto t = static_cast<size_t>(round % 2 == 0 ? i : num_targets - 1 - i);
        if (progress) progress({t, &task, done, total, warmup});
        QUENCH_TRY(BenchRun run, measure_run(*targets[t], request, options.stop));
        run.warmup = warmup;
        results[t].back().runs.push_back(std::move(run));
        ++done;
      }
    }
  }
  return {};
}

}  // namespace quench
