// The protocol: warm-up runs, then counted runs with the seeds 1, 2, ..., each one request on an
// otherwise idle target. One thread.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "measure/bench_run.h"
#include "measure/statistics.h"
#include "measure/task.h"

namespace quench {

// All runs of one task on one target.
struct TaskRuns {
  std::string task;
  std::string lang;
  std::vector<BenchRun> runs;  // warm-ups first
};

// The counted runs' values, one per run that has it and did not fail.
using RunValue = std::function<std::optional<double>(const BenchRun&)>;
std::vector<double> counted(const std::vector<TaskRuns>& tasks, const RunValue& value);
std::vector<double> counted(const TaskRuns& task, const RunValue& value);

// Speeds and times over all counted runs of all tasks.
struct SpeedSummary {
  Summary decode_tok_s;
  Summary prefill_tok_s;
  Summary ttft_s;
  Summary e2e_s;
};
SpeedSummary summarize_speed(const std::vector<TaskRuns>& tasks);

// Runs one request to its end; one that the target ends with an error comes back with BenchRun::
// error. `stop` set from elsewhere ends it with an error kCancelled.
Result<BenchRun> measure_run(BenchTarget& target, const BenchRequest& request,
                             const std::atomic<bool>* stop);

// Whether the last three speeds of a warm-up still climb, each over the one before and together by
// more than 5 %: then the next run is probably faster yet. Speeds that only scatter do so once in
// six times, which costs one more run.
bool still_climbing(const std::vector<TaskRuns>& tasks);

struct ProtocolOptions {
  std::vector<Task> tasks;
  std::string lang = "en";
  ProtocolLength length;
  uint64_t first_seed = 1;
  // A task's warm-ups go on beyond those of `length`, up to so many, while the decode speed climbs.
  int64_t max_warmups = 0;
  std::optional<int64_t> locked_tokens;  // every answer has exactly so many tokens
  // So many failed requests in a row are noted and passed over; one more ends the measurement.
  int64_t max_failures = 0;
  const std::atomic<bool>* stop = nullptr;
};

// What one run of this task asks for; the caller sets the seed.
Result<BenchRequest> make_request(const Protocol& protocol, const ProtocolOptions& options,
                                  const Task& task);

// What is under way: run number `run` of `runs` of everything that was asked for.
struct RunProgress {
  size_t target;
  const Task* task;
  int64_t run;
  int64_t runs;
  bool warmup;
  const BenchRun* last;  // that has ended, of this target; null: none yet
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
