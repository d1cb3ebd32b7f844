// The machine as threads see it: which CPUs this process may use, which of them share a core, how
// large the caches are. Asked once, at the first call; any thread.
#pragma once

#include <cstdint>
#include <vector>

namespace quench {

struct Topology {
  // One CPU of each physical core of the process's affinity mask, as the mask was when it was first
  // asked for. Empty when nobody can tell.
  std::vector<int> core_cpus;
  bool mask_is_narrowed = false;  // somebody (taskset) has chosen CPUs already
  int64_t l2_bytes = 0;           // of one core; 0: unknown
  int64_t l3_bytes = 0;           // of all L3 caches that these cores reach, each once; 0: unknown
};
const Topology& topology();

// Threads that do work at the same time here: one per physical core of the affinity mask, cut down
// by the cgroup quota. At least 1.
int available_cpus();

// Where the members of a team should be pinned, or empty: leave them to the scheduler. A team with
// at least one member for each core is pinned, in turn; a smaller one is not, because two of them
// would stack on the same first cores, and neither is one whose CPUs were chosen by an affinity
// mask.
std::vector<int> pin_cpus(int num_threads);

}  // namespace quench
