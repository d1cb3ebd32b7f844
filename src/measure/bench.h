// Bench: one target measured by the protocol or under load, with the state of the machine
// meanwhile: what becomes a quench.record/1 (measure/bench_record.h). One thread drives it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/session.h"
#include "measure/http_target.h"
#include "measure/load.h"
#include "measure/measured_model.h"
#include "measure/problem.h"
#include "measure/telemetry.h"
#include "plan/ceilings.h"

namespace quench {

struct BenchOptions {
  SessionOptions session;           // the engine in this process, unless there is a server
  std::optional<HttpOptions> http;  // a server instead
  std::vector<std::string> tasks;   // names; empty: the protocol's
  std::string prompt;               // a task of its own instead of those; or empty
  std::string length = "full";      // of the protocol
  std::optional<int64_t> warmups, runs, max_new_tokens;  // over those of the length
  int64_t max_warmups = 10;                              // while the speed still climbs
  std::string lang = "en";
  uint64_t first_seed = 1;
  std::optional<int64_t> locked_tokens;
  std::vector<int64_t> concurrency;  // load instead of single requests: each level in turn,
  std::vector<double> rates_s;       // then each of these arrival rates
  std::optional<int64_t> requests;   // of each level; null: 4 for each in flight, at least 20
  Slo slo;
  bool cached_ceilings = false;  // those of the last day are good enough
  std::string label;
  const std::atomic<bool>* stop = nullptr;
  // A short phrase that stays the same as long as one thing goes on, how far it is, and what the
  // last step brought (may be empty).
  std::function<void(const std::string& stage, int64_t done, int64_t total,
                     const std::string& detail)>
      progress;
};

struct Bench {
  std::string label;
  Json target;  // BenchTarget::describe()
  MeasuredModel model;
  std::vector<Task> task_list;
  Json sampling;  // of the protocol
  ProtocolLength length;
  std::string lang;
  uint64_t first_seed = 1;
  int64_t max_warmups = 0;
  std::optional<int64_t> locked_tokens;
  Slo slo;
  bool interleaved = false;  // with other models, in a shootout

  std::vector<TaskRuns> tasks;
  std::vector<LoadLevel> loads;
  std::optional<double> load_s;  // opening the model: reading, quantizing, packing
  std::optional<int64_t> planned_bytes;
  std::optional<int64_t> peak_bytes;
  std::optional<Ceilings> ceilings;
  std::optional<MachineInterval>
      before;                         // the machine just before, idle as far as we are concerned
  std::optional<MachineState> state;  // while it was measured
  std::vector<TelemetrySample> series;
  std::vector<Problem> problems;
  bool complete = false;  // false: stopped before its end
};

// Clears `bench` and fills it as it goes: what is in it when an error comes back is measured.
Result<void> run_bench(const BenchOptions& options, Bench& bench);

// What is wrong or remarkable, from what was measured.
std::vector<Problem> find_problems(const Bench& bench);
// What the state of the machine did to figures that were taken on it meanwhile. A server on it is
// one of the others, so those count only where the engine ran in this process.
std::vector<Problem> machine_problems(const MachineState& state, bool in_process);

}  // namespace quench
