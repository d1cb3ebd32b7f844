// The CPU time and the memory that the control groups of this process grant. Reads files when
// asked; any thread.
#pragma once

#include <optional>
#include <string>

namespace quench {

// CPUs' worth of time per second: the least quota of the process's own group and of all groups
// around it (cgroups v1 and v2); nothing where there is no quota. `root` stands before every path
// that is read, for tests; empty is this machine.
std::optional<double> cgroup_cpu_quota(const std::string& root = "");
// The least limit of memory, likewise.
std::optional<double> cgroup_memory_bytes(const std::string& root = "");

}  // namespace quench
