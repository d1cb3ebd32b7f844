#include <algorithm>

#include "measure/bench.h"
#include "measure/run_limits.h"

namespace quench {
namespace {

// Shares of the machine's time from which on a neighbour is worth a sentence.
constexpr double kOthersShare = 0.1;
constexpr double kStealShare = 0.02;
// A clock this far under the highest one of the same measurement (nvbench's limit is 80 % too).
constexpr double kSlowClock = 0.8;
constexpr double kTrendP = 0.01;
// A reader that is a little late sees two pieces at once; more than this is the sender's doing.
constexpr double kBurstShare = 0.2;
constexpr double kOneReadS = 50e-6;

std::string percent_text(double share) { return fmt::format("{:.0f}", 100.0 * share); }

class Finder {
 public:
  explicit Finder(const Bench& bench) : bench_(bench) {}

  std::vector<Problem> find() {
    find_failures();
    take(impossible_runs(bench_.tasks));
    for (const TaskRuns& task : bench_.tasks) {
      find_counts(task.task, task.runs);
      find_lengths(task);
      find_bursts(task.task, task.runs);
      find_unsteady(task);
    }
    for (const LoadLevel& level : bench_.loads) {
      find_counts("load", level.runs);
      find_bursts("load", level.runs);
    }
    find_fallbacks();
    if (const Json refused = bench_.target.value("refused", Json()); !refused.empty())
      add("parameters", {{"refused", refused.dump()}});
    if (bench_.state)
      take(machine_problems(*bench_.state, bench_.target.value("target", "") == "engine"));
    return std::move(problems_);
  }

 private:
  void add(const char* kind, std::map<std::string, std::string> values, const char* key = "") {
    problems_.push_back(make_problem(kind, std::move(values), key));
  }
  void take(std::vector<Problem> found) {
    for (Problem& problem : found) problems_.push_back(std::move(problem));
  }

  void find_failures() {
    size_t all = 0;
    size_t failed = 0;
    const std::string* first = nullptr;
    auto look = [&](const std::vector<BenchRun>& runs) {
      for (const BenchRun& run : runs) {
        ++all;
        if (run.error.empty()) continue;
        ++failed;
        if (first == nullptr) first = &run.error;
      }
    };
    for (const TaskRuns& task : bench_.tasks) look(task.runs);
    for (const LoadLevel& level : bench_.loads) look(level.runs);
    if (first != nullptr) {
      add("failed",
          {{"failed", std::to_string(failed)}, {"all", std::to_string(all)}, {"first", *first}});
    }
  }

  void find_counts(const std::string& task, const std::vector<BenchRun>& runs) {
    const auto differ = [](const BenchRun& run) { return run.counts_differ(); };
    const auto it = std::find_if(runs.begin(), runs.end(), differ);
    if (it == runs.end()) return;
    const auto pieces = static_cast<int64_t>(it->token_s.size());
    add("counts",
        {{"task", task},
         {"tokens", std::to_string(*it->reported_tokens)},
         {"pieces", std::to_string(pieces)},
         {"runs", std::to_string(std::count_if(runs.begin(), runs.end(), differ))},
         {"all", std::to_string(runs.size())}},
        *it->reported_tokens > pieces ? "counts_more" : "counts_fewer");
  }

  // Of a stream over the network; what one read has brought is a few microseconds apart.
  void find_bursts(const std::string& task, const std::vector<BenchRun>& runs) {
    if (bench_.target.value("target", "") != "http") return;
    int64_t pieces = 0;
    int64_t together = 0;
    for (const BenchRun& run : runs) {
      for (size_t i = 1; i < run.token_s.size(); ++i) {
        ++pieces;
        if (run.token_s[i] - run.token_s[i - 1] < kOneReadS) ++together;
      }
    }
    const double part =
        static_cast<double>(together) / static_cast<double>(std::max<int64_t>(pieces, 1));
    if (part > kBurstShare) add("bursts", {{"task", task}, {"percent", percent_text(part)}});
  }

  void find_lengths(const TaskRuns& task) {
    int64_t cut = 0, unlocked = 0, unstreamed = 0, all = 0;
    for (const BenchRun& run : task.runs) {
      if (run.warmup || !run.error.empty()) continue;
      ++all;
      if (run.token_s.empty() && run.generated_tokens > 0) ++unstreamed;
      if (run.finish_reason == FinishReason::kLength) ++cut;
      if (bench_.locked_tokens && run.generated_tokens != *bench_.locked_tokens) ++unlocked;
    }
    auto answers = [&](int64_t count) {
      return std::map<std::string, std::string>{
          {"task", task.task}, {"count", std::to_string(count)}, {"all", std::to_string(all)}};
    };
    if (unstreamed > 0) add("unstreamed", answers(unstreamed));
    if (unlocked > 0) {
      auto values = answers(unlocked);
      values["tokens"] = std::to_string(*bench_.locked_tokens);
      add("unlocked", std::move(values));
    }
    if (cut > 0 && !bench_.locked_tokens) add("cut", answers(cut));
  }

  void find_unsteady(const TaskRuns& task) {
    if (still_climbing({task})) add("warmup", {{"task", task.task}});
    const std::vector<double> speeds =
        counted(task, [](const BenchRun& run) { return run.decode_tok_s(); });
    const Trend trend = find_trend(speeds);
    if (trend.p_value < kTrendP) {
      add("trend",
          {{"task", task.task},
           {"tau", fmt::format("{:.2f}", trend.tau)},
           {"p", fmt::format("{:.4f}", trend.p_value)}},
          trend.tau > 0.0 ? "trend_up" : "trend_down");
    }
  }

  void find_fallbacks() {
    const Json fallbacks = bench_.target.value("plan", Json::object()).value("fallbacks", Json());
    if (!fallbacks.is_object() || fallbacks.empty()) return;
    add("fallback", {{"count", std::to_string(fallbacks.size())},
                     {"name", fallbacks.begin().key()},
                     {"why", fallbacks.begin()->get<std::string>()}});
  }

  const Bench& bench_;
  std::vector<Problem> problems_;
};

}  // namespace

std::vector<Problem> machine_problems(const MachineState& state, bool in_process) {
  std::vector<Problem> problems;
  auto add = [&](const char* kind, std::map<std::string, std::string> values) {
    problems.push_back(make_problem(kind, std::move(values)));
  };
  const double others = state.during.others_share.value_or(0.0);
  if (others > kOthersShare && in_process) add("others", {{"percent", percent_text(others)}});
  const double steal = state.during.steal_share.value_or(0.0);
  if (steal > kStealShare) add("steal", {{"percent", percent_text(steal)}});
  if (state.throttle_events.value_or(0) > 0)
    add("throttled", {{"count", std::to_string(*state.throttle_events)}});
  if (state.quota_throttled_s.value_or(0.0) > 0.0)
    add("quota", {{"seconds", fmt::format("{:.1f}", *state.quota_throttled_s)}});
  if (state.clock_ghz_median && *state.clock_ghz_median < kSlowClock * *state.clock_ghz_max) {
    add("clock", {{"median", fmt::format("{:.2f}", *state.clock_ghz_median)},
                  {"best", fmt::format("{:.2f}", *state.clock_ghz_max)}});
  }
  if (state.major_faults.value_or(0) > 100)
    add("faults", {{"count", std::to_string(*state.major_faults)}});
  return problems;
}

std::vector<Problem> find_problems(const Bench& bench) { return Finder(bench).find(); }

}  // namespace quench
