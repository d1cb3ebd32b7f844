#include "measure/protocol.h"

#include <algorithm>

#include "base/clock.h"

namespace quench {
namespace {

// How soon a measurement notices that it was stopped, where the target can be interrupted.
constexpr double kStopCheckS = 0.1;

}  // namespace

std::vector<double> counted(const TaskRuns& task, const RunValue& value) {
  std::vector<double> result;
  for (const BenchRun& run : task.runs) {
    if (run.warmup || !run.error.empty()) continue;
    if (const auto number = value(run)) result.push_back(*number);
  }
  return result;
}

std::vector<double> counted(const std::vector<TaskRuns>& tasks, const RunValue& value) {
  std::vector<double> result;
  for (const TaskRuns& task : tasks) {
    const std::vector<double> values = counted(task, value);
    result.insert(result.end(), values.begin(), values.end());
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
  InFlight in_flight(target);
  QUENCH_TRY_VOID(in_flight.submit(request, {}));
  bool cancelled = false;
  for (;;) {
    if (!cancelled && stop != nullptr && stop->load(std::memory_order_relaxed)) {
      in_flight.cancel();
      cancelled = true;
    }
    QUENCH_TRY(std::vector<BenchRun> ended, in_flight.poll(now_s() + kStopCheckS));
    if (ended.empty()) continue;
    if (ended.front().finish_reason == FinishReason::kCancelled)
      return fail(ErrorCode::kCancelled, "The measurement was stopped.");
    return std::move(ended.front());
  }
}

bool still_climbing(const std::vector<TaskRuns>& tasks) {
  if (tasks.empty()) return false;
  std::vector<double> speeds;
  for (const BenchRun& run : tasks.back().runs) {
    const auto speed = run.decode_tok_s();
    if (run.warmup && run.error.empty() && speed) speeds.push_back(*speed);
  }
  const size_t n = speeds.size();
  return n >= 3 && speeds[n - 1] > speeds[n - 2] && speeds[n - 2] > speeds[n - 3] &&
         speeds[n - 1] > 1.05 * speeds[n - 3];
}

namespace {

// run_protocol() of one task on all targets.
class TaskRounds {
 public:
  TaskRounds(const std::vector<BenchTarget*>& targets, const ProtocolOptions& options,
             std::vector<std::vector<TaskRuns>>& results,
             const std::function<void(const RunProgress&)>& progress)
      : targets_(targets), options_(options), results_(results), progress_(progress) {}

  Result<void> run(const Task& task, BenchRequest request, int64_t done_before, int64_t total) {
    const ProtocolLength& length = options_.length;
    int64_t done = done_before;
    int64_t warmups = length.warmups;
    for (int64_t round = 0; round < warmups + length.runs; ++round) {
      const bool warmup = round < warmups;
      // Warm-ups take seeds of their own, so that every counted run is new to a cache.
      request.sampling.seed = options_.first_seed +
                              static_cast<uint64_t>(warmup ? length.runs + round : round - warmups);
      const auto num_targets = static_cast<int64_t>(targets_.size());
      for (int64_t i = 0; i < num_targets; ++i) {
        const auto t = static_cast<size_t>(round % 2 == 0 ? i : num_targets - 1 - i);
        const std::vector<BenchRun>& before = results_[t].back().runs;
        const BenchRun* last = before.empty() ? nullptr : &before.back();
        if (progress_) progress_({t, &task, std::min(done, total), total, warmup, last});
        QUENCH_TRY_VOID(run_one(t, request, task.name, warmup));
        ++done;
      }
      const bool climbing = std::any_of(results_.begin(), results_.end(), still_climbing);
      if (warmup && round + 1 == warmups && warmups < options_.max_warmups && climbing) ++warmups;
    }
    return {};
  }

 private:
  Result<void> run_one(size_t t, const BenchRequest& request, const std::string& task,
                       bool warmup) {
    auto measured = measure_run(*targets_[t], request, options_.stop);
    const bool stopped = !measured && measured.error().code == ErrorCode::kCancelled;
    if (!measured && (stopped || options_.max_failures == 0))
      return tl::unexpected(measured.error());
    BenchRun run = measured ? std::move(*measured) : BenchRun();
    if (!measured) {
      run.seed = request.sampling.seed;
      run.finish_reason = FinishReason::kError;
      run.error = measured.error().message;
    }
    run.task = task;
    run.warmup = warmup;
    const std::string error = run.error;
    results_[t].back().runs.push_back(std::move(run));
    failures_ = error.empty() ? 0 : failures_ + 1;
    if (failures_ > options_.max_failures) {
      return fail(ErrorCode::kInternal, "{}{}", error,
                  failures_ > 1 ? fmt::format(" That were {} failures in a row.", failures_) : "");
    }
    return {};
  }

  const std::vector<BenchTarget*>& targets_;
  const ProtocolOptions& options_;
  std::vector<std::vector<TaskRuns>>& results_;
  const std::function<void(const RunProgress&)>& progress_;
  int64_t failures_ = 0;
};

}  // namespace

Result<void> run_protocol(const std::vector<BenchTarget*>& targets, const Protocol& protocol,
                          const ProtocolOptions& options,
                          std::vector<std::vector<TaskRuns>>& results,
                          const std::function<void(const RunProgress&)>& progress) {
  const auto per_task =
      (options.length.warmups + options.length.runs) * static_cast<int64_t>(targets.size());
  const int64_t total = per_task * static_cast<int64_t>(options.tasks.size());
  results.assign(targets.size(), {});
  TaskRounds rounds(targets, options, results, progress);
  for (size_t i = 0; i < options.tasks.size(); ++i) {
    const Task& task = options.tasks[i];
    QUENCH_TRY(const BenchRequest request, make_request(protocol, options, task));
    for (auto& result : results) result.push_back({task.name, options.lang, {}});
    QUENCH_TRY_VOID(rounds.run(task, request, static_cast<int64_t>(i) * per_task, total));
  }
  return {};
}

Result<BenchRequest> make_request(const Protocol& protocol, const ProtocolOptions& options,
                                  const Task& task) {
  BenchRequest request;
  QUENCH_TRY(request.prompt, task.prompt(options.lang));
  QUENCH_TRY(request.sampling, protocol.settings(task, options.length));
  request.length_locked = options.locked_tokens.has_value();
  if (options.locked_tokens)
    request.sampling.max_new_tokens = static_cast<int>(*options.locked_tokens);
  return request;
}

}  // namespace quench
