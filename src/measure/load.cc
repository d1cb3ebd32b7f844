#include "measure/load.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "base/clock.h"
#include "base/random.h"

namespace quench {
namespace {

// How soon a load notices that it was stopped.
constexpr double kStopPollS = 0.1;
constexpr uint32_t kArrivalStream = 7;  // of random numbers, apart from those that draw tokens

// When each request should be sent, in seconds from the start; empty: as soon as there is room.
std::vector<double> arrivals(const LoadShape& shape, uint64_t seed) {
  std::vector<double> times;
  double time_s = 0.0;
  for (int64_t i = 0; shape.rate_s && i < shape.requests; ++i) {
    times.push_back(time_s);  // the first at once
    time_s -= std::log(1.0 - random_uniform(seed, static_cast<uint64_t>(i), kArrivalStream)) /
              *shape.rate_s;
  }
  return times;
}

class LoadRunner {
 public:
  LoadRunner(BenchTarget& target, const ProtocolOptions& options, const LoadShape& shape,
             LoadLevel& level)
      : in_flight_(target),
        options_(options),
        shape_(shape),
        level_(level),
        arrivals_(arrivals(shape, options.first_seed)) {}

  Result<void> run(const std::vector<BenchRequest>& requests,
                   const std::function<void(int64_t, int64_t)>& progress) {
    level_.start_s = now_s();
    while (sent_ < shape_.requests || in_flight_.count() > 0) {
      const bool stopped =
          options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
      if (stopped) break;
      while (is_due()) QUENCH_TRY_VOID(send(requests));
      if (progress)
        progress(static_cast<int64_t>(level_.runs.size()),
                 static_cast<int64_t>(in_flight_.count()));
      const double until_s = std::min(now_s() + kStopPollS, next_arrival_s());
      if (in_flight_.count() == 0) {
        std::this_thread::sleep_for(std::chrono::duration<double>(until_s - now_s()));
        continue;
      }
      QUENCH_TRY(std::vector<BenchRun> ended, in_flight_.poll(until_s));
      for (BenchRun& run : ended) QUENCH_TRY_VOID(keep(std::move(run)));
    }
    if (sent_ == shape_.requests && in_flight_.count() == 0) return {};
    return fail(ErrorCode::kCancelled, "The measurement was stopped.");
  }

  // Whatever is still under way is given up; what it has brought is kept.
  void abandon() {
    constexpr double kPatienceS = 2.0;
    in_flight_.cancel();
    const double until_s = now_s() + kPatienceS;
    while (in_flight_.count() > 0 && now_s() < until_s) {
      auto ended = in_flight_.poll(until_s);
      if (!ended) return;
      for (BenchRun& run : *ended) {
        if (run.error.empty()) run.error = "Stopped before its end.";
        level_.runs.push_back(std::move(run));
      }
    }
  }

 private:
  bool is_due() const {
    if (sent_ == shape_.requests) return false;
    if (shape_.concurrency) return static_cast<int64_t>(in_flight_.count()) < *shape_.concurrency;
    return now_s() >= next_arrival_s();
  }
  // Far away where nothing waits for a time.
  double next_arrival_s() const {
    const auto next = static_cast<size_t>(sent_);
    return next < arrivals_.size() ? level_.start_s + arrivals_[next] : 1e300;
  }

  Result<void> send(const std::vector<BenchRequest>& requests) {
    const auto number = static_cast<size_t>(sent_++);
    BenchRequest request = requests[number % requests.size()];
    request.sampling.seed = options_.first_seed + number;
    BenchRun run;
    run.task = options_.tasks[number % requests.size()].name;
    if (!arrivals_.empty()) run.intended_s = level_.start_s + arrivals_[number];
    const auto sent = in_flight_.submit(request, run);
    if (sent) return {};
    run.seed = request.sampling.seed;
    run.start_s = now_s();
    run.finish_reason = FinishReason::kError;
    run.error = sent.error().message;
    return keep(std::move(run));
  }

  Result<void> keep(BenchRun run) {
    const std::string error = run.error;
    level_.duration_s = run.start_s + run.e2e_s - level_.start_s;
    level_.runs.push_back(std::move(run));
    failures_ = error.empty() ? 0 : failures_ + 1;
    if (failures_ <= options_.max_failures) return {};
    return fail(ErrorCode::kInternal, "{} That were {} failures in a row.", error, failures_);
  }

  InFlight in_flight_;
  const ProtocolOptions& options_;
  const LoadShape& shape_;
  LoadLevel& level_;
  const std::vector<double> arrivals_;
  int64_t sent_ = 0;
  int64_t failures_ = 0;
};

// Tokens of all runs that arrived in [begin_s, end_s) of the steady clock, over that time.
std::optional<double> tokens_per_second(const LoadLevel& level, double begin_s, double end_s) {
  if (end_s <= begin_s) return std::nullopt;
  double tokens = 0.0;
  for (const BenchRun& run : level.runs) {
    const double per_piece = run.token_s.empty() ? 0.0
                                                 : static_cast<double>(run.generated_tokens) /
                                                       static_cast<double>(run.token_s.size());
    for (const double time_s : run.token_s) {
      const double at_s = run.start_s + time_s;
      if (at_s >= begin_s && at_s < end_s) tokens += per_piece;
    }
  }
  return tokens / (end_s - begin_s);
}

std::optional<double> full_rate(const LoadLevel& level) {
  if (!level.shape.concurrency) return std::nullopt;
  std::vector<double> starts;
  for (const BenchRun& run : level.runs) starts.push_back(run.start_s);
  std::sort(starts.begin(), starts.end());
  const auto wide = static_cast<size_t>(*level.shape.concurrency);
  if (starts.size() <= wide) return std::nullopt;
  return tokens_per_second(level, starts[wide - 1], starts.back());
}

}  // namespace

bool Slo::met_by(const BenchRun& run) const {
  if (!run.error.empty() || run.token_s.empty()) return false;
  if (ttft_s && response_ttft_s(run) > *ttft_s) return false;
  return !tpot_s || run.tpot_s().value_or(0.0) <= *tpot_s;
}

double response_ttft_s(const BenchRun& run) {
  return run.ttft_s + (run.intended_s ? run.start_s - *run.intended_s : 0.0);
}
double response_e2e_s(const BenchRun& run) {
  return run.e2e_s + (run.intended_s ? run.start_s - *run.intended_s : 0.0);
}

Result<void> run_load(BenchTarget& target, const Protocol& protocol, const ProtocolOptions& options,
                      const LoadShape& shape, LoadLevel& level,
                      const std::function<void(int64_t, int64_t)>& progress) {
  level = {};
  level.shape = shape;
  std::vector<BenchRequest> requests;
  for (const Task& task : options.tasks) {
    QUENCH_TRY(BenchRequest request, make_request(protocol, options, task));
    requests.push_back(std::move(request));
  }
  LoadRunner runner(target, options, level.shape, level);
  const Result<void> done = runner.run(requests, progress);
  if (!done) runner.abandon();
  return done;
}

LoadSummary summarize_load(const LoadLevel& level, const Slo& slo) {
  LoadSummary summary;
  double tokens = 0.0;
  double busy_s = 0.0;
  int64_t good = 0;
  for (const BenchRun& run : level.runs) {
    busy_s += run.e2e_s;
    if (!run.error.empty()) ++summary.failed;
    if (run.error.empty()) tokens += static_cast<double>(run.generated_tokens);
    if (slo.met_by(run)) ++good;
  }
  const auto all = static_cast<double>(level.runs.size());
  if (level.duration_s > 0.0) {
    summary.requests_s = (all - static_cast<double>(summary.failed)) / level.duration_s;
    summary.output_tok_s = tokens / level.duration_s;
    summary.mean_in_flight = busy_s / level.duration_s;
    if (!slo.empty()) {
      summary.good_share = static_cast<double>(good) / all;
      summary.goodput_requests_s = static_cast<double>(good) / level.duration_s;
    }
  }
  summary.full_output_tok_s = full_rate(level);
  const TaskRuns runs = {"", "", level.runs};
  using Value = std::optional<double>;
  auto of_runs = [&](const RunValue& value) { return summarize(counted(runs, value)); };
  auto first = [](auto value) {
    return [value](const BenchRun& run) { return run.token_s.empty() ? Value() : value(run); };
  };
  summary.ttft_s = of_runs(first([](const BenchRun& run) { return Value(run.ttft_s); }));
  summary.tpot_s = of_runs([](const BenchRun& run) { return run.tpot_s(); });
  summary.e2e_s = of_runs([](const BenchRun& run) { return Value(run.e2e_s); });
  summary.response_ttft_s =
      of_runs(first([](const BenchRun& run) { return Value(response_ttft_s(run)); }));
  summary.response_e2e_s = of_runs([](const BenchRun& run) { return Value(response_e2e_s(run)); });
  return summary;
}

std::optional<double> bounded_percentile(std::span<const double> values, double percent) {
  // The largest of n lies above it with probability 1 - p^n.
  const double below_all = std::pow(percent / 100.0, static_cast<double>(values.size()));
  if (values.empty() || below_all > 0.05) return std::nullopt;
  return percentile(values, percent);
}

}  // namespace quench
