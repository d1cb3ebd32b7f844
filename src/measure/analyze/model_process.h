// ModelProcess: a model in a process of its own, as a neighbour on the machine has it: it is told
// what to run and from when to when, and stopped. Owns the process, which ends with the object, and
// with this process however it ends. Start it while this process has no other threads: the child is
// a fork of it. One thread.
#pragma once

#include <sys/types.h>

#include <cstdio>

#include "measure/analyze/live_model.h"

namespace quench {

struct ModelProcessOptions {
  SessionOptions session;
  LiveLimits lengths;
  uint64_t seed = 0;      // of the token ids
  double run_s = 0.05;    // of one decode run: the grain of a period
  std::vector<int> cpus;  // that it may use; empty: those of this process
};

// One model as its process has it.
struct ModelFacts {
  std::string name, format, isa;
  int threads = 0;
  int64_t planned_bytes = 0;
};

// What may be asked of the machine with this process's team, and of the model in it.
struct ModelProfile {
  Ceilings ceilings;
  PassTime prefill_time, decode_time;
  PassLimit prefill_limit, decode_limit;
};

class ModelProcess {
 public:
  // The child loads and warms up from now on; ready() waits for it.
  static Result<ModelProcess> start(const ModelProcessOptions& options);
  ModelProcess(ModelProcess&& other) noexcept;
  ModelProcess& operator=(ModelProcess&&) = delete;
  ~ModelProcess();

  Result<ModelFacts> ready();
  // Measures the machine's ceilings with this process's team, and where the time of a pass goes.
  Result<ModelProfile> profile();
  // Runs prompts, or decodes, again and again from begin_s to end_s (now_s()); finish() waits and
  // says how many tokens per second the runs had that were over by then, the first one in any case.
  Result<void> begin(bool is_prefill, double begin_s, double end_s);
  Result<double> finish();

 private:
  ModelProcess() = default;
  Result<void> ask(const Json& question);
  Result<Json> answer();

  std::string name_;
  pid_t child_ = -1;
  std::FILE* to_ = nullptr;
  std::FILE* from_ = nullptr;
};

}  // namespace quench
