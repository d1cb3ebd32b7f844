// The protocol: warm-up runs, then counted runs with the seeds 1, 2, ..., each one request on an
// otherwise idle target.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "measure/statistics.h"
#include "measure/target.h"
#include "measure/task.h"

namespace quench {

// One answer with its times, on the caller's clock, from the call of submit().
struct BenchRun {
  bool warmup = false;
  uint64_t seed = 0;
  std::optional<int64_t> prompt_tokens;
  int64_t generated_tokens = 0;  // a stop token included
  FinishReason finish_reason = FinishReason::kStop;
  double ttft_s = 0.0;                 // token_s[0]; 0 without tokens
  double e2e_s = 0.0;                  // until the last event
  std::vector<double> token_s;         // [generated_tokens] as the caller saw them
  std::vector<double> engine_token_s;  // [generated_tokens] as the engine drew them; empty: unknown
  std::string text;

  // Generated tokens after the first, over the time between the first and the last; null with less
  // than two tokens.
  std::optional<double> decode_tok_s() const;
  // Prompt tokens over the time to the first token, which includes drawing it.
  std::optional<double> prefill_tok_s() const;
};

// All runs of one task on one target.
struct TaskRuns {
  std::string task;
  std::string lang;
  std::vector<BenchRun> runs;  // warm-ups first
};

// The counted runs' values, one per run that has it.
std::vector<double> counted(const std::vector<TaskRuns>& tasks,
                            const std::function<std::optional<double>(const BenchRun&)>& value);

// Speeds and times over all counted runs of all tasks.
struct SpeedSummary {
  Summary decode_tok_s;
  Summary prefill_tok_s;
  Summary ttft_s;
  Summary e2e_s;
};
SpeedSummary summarize_speed(const std::vector<TaskRuns>& tasks);

// Runs one request to its end. `stop` set from elsewhere ends it with an error kCancelled.
Result<BenchRun> measure_run(BenchTarget& target, const BenchRequest& request,
                             const std::atomic<bool>* stop);

struct ProtocolOptions {
  std::vector<Task> tasks;
  std::string lang = "en";
  ProtocolLength length;
  uint64_t first_seed = 1;
  const std::atomic<bool>* stop = nullptr;
};

// What is under way: run number `run` of `runs` of everything that was asked for.
struct RunProgress {
  size_t target;
  const Task* task;
  int64_t run;
  int64_t runs;
  bool warmup;
};

// Measures several targets with the same requests. Their runs take turns, and every second round
// goes through the targets backwards (A B C, C B A, ...), so that a machine that grows slower with
// time is not taken for a slower target. `results` has one entry per target and holds what is done
// when an error comes back, kCancelled after `stop`.
Result<void> run_protocol(const std::vector<BenchTarget*>& targets, const Protocol& protocol,
                          const ProtocolOptions& options,
                          std::vector<std::vector<TaskRuns>>& results,
                          const std::function<void(const RunProgress&)>& progress = {});

}  // namespace quench
