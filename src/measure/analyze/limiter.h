// Limiter: what limits a measured pass of a model on this machine, in one sentence with its
// arithmetic. Pure functions over what was measured; any thread.
#pragma once

#include <optional>

#include "devices/trace.h"
#include "measure/analyze/experiments.h"

namespace quench {

// How the time of traced passes divides, in seconds of worker 0; host_s and sampler_s are not in a
// trace and stay 0. A span that has spans inside it counts as waiting for what they do not fill.
PassTime pass_time(const Trace& trace);
// The same shares of another total: tracing itself takes time.
PassTime scaled_to(const PassTime& time, double total_s);

struct MeasuredPass {
  bool is_prefill = false;
  int64_t tokens = 0;  // per pass, of all sequences
  int64_t batch = 1;
  int64_t context = 0;
  int64_t layers = 0;
  PassTime time;
  PassLimit limit;             // of one pass
  double read_gb_s = 0.0;      // the ceiling for this working set
  std::string read_level;      // "L3"
  double generic_share = 0.0;  // of the weights' bytes, in matrices that run in a generic kernel
  std::string generic_kernel;
  // While it ran:
  int threads = 1;
  int cpus = 1;
  std::optional<double> others_cpus;  // busy with others, and stolen
  int64_t major_faults = 0;
  int64_t planned_bytes = 0;
  std::optional<int64_t> available_bytes;  // before loading
};

struct Limiter {
  // "overflow", "generic_kernel", "neighbour", "weights", "compute", "kv", "attention", "layers",
  // "waiting", "host", "sampler"
  std::string id;
  Sentence sentence;
  double share_of_time = 0.0;   // that this takes
  double share_of_limit = 0.0;  // the least time over the measured one, of the whole pass
};
Limiter find_limiter(const MeasuredPass& pass);

// "61 % weights, 9 % attention, ...".
std::string time_text(const MeasuredPass& pass, const Strings& strings);
Json measured_pass_json(const MeasuredPass& pass, const Limiter& limiter);

}  // namespace quench
