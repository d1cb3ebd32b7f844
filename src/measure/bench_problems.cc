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

class Finder {
 public:
  explicit Finder(const Bench& bench) : bench_(bench) {}

  std::vector<Problem> find() {
    find_failures();
    for (std::string& sentence : impossible_runs(bench_.tasks))
      problems_.push_back({"impossible", std::move(sentence)});
    for (const TaskRuns& task : bench_.tasks) {
      find_counts(task.task, task.runs);
      find_lengths(task);
      find_bursts(task.task, task.runs);
      find_unsteady(task);
    }
    for (const LoadLevel& level : bench_.loads) {
      find_counts("the load", level.runs);
      find_bursts("the load", level.runs);
    }
    find_fallbacks();
    if (const Json refused = bench_.target.value("refused", Json()); !refused.empty()) {
      add("parameters", "The server refused {}; its answers were made without.", refused.dump());
    }
    if (bench_.state) find_machine(*bench_.state);
    return std::move(problems_);
  }

 private:
  template <class... Args>
  void add(const char* kind, fmt::format_string<Args...> format, Args&&... args) {
    problems_.push_back({kind, fmt::format(format, std::forward<Args>(args)...)});
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
    if (first != nullptr)
      add("failed", "{} of {} requests failed; the first: {}", failed, all, *first);
  }

  void find_counts(const std::string& where, const std::vector<BenchRun>& runs) {
    const auto differ = [](const BenchRun& run) { return run.counts_differ(); };
    const auto it = std::find_if(runs.begin(), runs.end(), differ);
    if (it == runs.end()) return;
    const auto pieces = static_cast<int64_t>(it->token_s.size());
    const char* meaning =
        *it->reported_tokens > pieces
            ? "several tokens came in one piece, or the count is wrong; speeds are those of the "
              "server's count, and first-token times those of the first piece"
            : "fewer tokens than pieces of text cannot be; speeds are those of the pieces";
    add("counts", "{}: the server counts {} tokens where {} pieces arrived ({} of {} runs): {}.",
        where, *it->reported_tokens, pieces, std::count_if(runs.begin(), runs.end(), differ),
        runs.size(), meaning);
  }

  // Of a stream over the network; what one read has brought is a few microseconds apart.
  void find_bursts(const std::string& where, const std::vector<BenchRun>& runs) {
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
    if (part <= kBurstShare) return;
    add("bursts",
        "{}: {:.0f} % of the pieces arrived together with the one before: something holds the "
        "stream back, and the first token's time and those between tokens say little.",
        where, 100.0 * part);
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
    if (unstreamed > 0) {
      add("unstreamed",
          "{}: {} of {} answers came in one piece: when their tokens were made is unknown.",
          task.task, unstreamed, all);
    }
    if (unlocked > 0) {
      add("unlocked",
          "{}: {} of {} answers do not have the {} tokens that were asked for: this "
          "target does not ignore its stop token.",
          task.task, unlocked, all, *bench_.locked_tokens);
    }
    if (cut > 0 && !bench_.locked_tokens) {
      add("cut",
          "{}: {} of {} answers were cut at the longest length: their full response time "
          "is that of the limit, not of the answer.",
          task.task, cut, all);
    }
  }

  void find_unsteady(const TaskRuns& task) {
    if (still_climbing({task})) {
      add("warmup",
          "{}: the speed still climbed at the end of the warm-ups: more of them may "
          "show a higher one.",
          task.task);
    }
    const std::vector<double> speeds =
        counted(task, [](const BenchRun& run) { return run.decode_tok_s(); });
    const Trend trend = find_trend(speeds);
    if (trend.p_value < kTrendP) {
      add("trend",
          "{}: the decode speed {} from run to run (tau {:.2f}, p {:.4f}): this was no "
          "steady state.",
          task.task, trend.tau > 0.0 ? "rose" : "fell", trend.tau, trend.p_value);
    }
  }

  void find_fallbacks() {
    const Json fallbacks = bench_.target.value("plan", Json::object()).value("fallbacks", Json());
    if (!fallbacks.is_object() || fallbacks.empty()) return;
    add("fallback", "{} weights do not have the format that was asked for; the first: {}: {}.",
        fallbacks.size(), fallbacks.begin().key(), fallbacks.begin()->get<std::string>());
  }

  void find_machine(const MachineState& state) {
    const double others = state.during.others_share.value_or(0.0);
    // A server on this machine is one of the others.
    if (others > kOthersShare && bench_.target.value("target", "") == "engine") {
      add("others",
          "Other processes took {:.0f} % of this machine's processors meanwhile: the "
          "speeds are lower than they could be and scatter more.",
          100.0 * others);
    }
    if (state.during.steal_share.value_or(0.0) > kStealShare) {
      add("steal", "The hypervisor gave {:.0f} % of the processors' time to others.",
          100.0 * *state.during.steal_share);
    }
    if (state.throttle_events.value_or(0) > 0)
      add("throttled", "The processor throttled {} times for its temperature.",
          *state.throttle_events);
    if (state.quota_throttled_s.value_or(0.0) > 0.0) {
      add("quota", "The control group's quota stopped this process for {:.1f} s.",
          *state.quota_throttled_s);
    }
    if (state.clock_ghz_median && *state.clock_ghz_median < kSlowClock * *state.clock_ghz_max) {
      add("clock", "The processors' clock was {:.2f} GHz most of the time, but {:.2f} at its best.",
          *state.clock_ghz_median, *state.clock_ghz_max);
    }
    if (state.major_faults.value_or(0) > 100) {
      add("faults", "{} pages had to be read from a disk meanwhile: the memory is too small.",
          *state.major_faults);
    }
  }

  const Bench& bench_;
  std::vector<Problem> problems_;
};

}  // namespace

std::vector<Problem> find_problems(const Bench& bench) { return Finder(bench).find(); }

}  // namespace quench
