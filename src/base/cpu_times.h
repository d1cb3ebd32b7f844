// CpuTimes: who has used the processors since the machine started, as Linux counts it. Plain
// values; any thread.
#pragma once

#include <optional>
#include <string>

namespace quench {

// Of all processors together; counters only grow.
struct CpuTimes {
  double busy_s = 0.0;   // in any process or the kernel, steal left out
  double steal_s = 0.0;  // a hypervisor gave it to somebody else
  double total_s = 0.0;  // idle time included
  double own_s = 0.0;    // of it, in one process
};

// From the texts of /proc/stat and /proc/PID/stat; what they do not say stays 0.
CpuTimes parse_cpu_times(const std::string& stat, const std::string& process_stat);
// Of this process.
CpuTimes read_cpu_times();

// What others took of the processors between two readings, stolen time included; null where the
// machine does not tell, or no time has passed.
std::optional<double> others_share(const CpuTimes& before, const CpuTimes& after);

}  // namespace quench
