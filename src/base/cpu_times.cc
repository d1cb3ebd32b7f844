#include "base/cpu_times.h"

#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "base/file.h"

namespace quench {
namespace {

double tick_s() { return 1.0 / static_cast<double>(::sysconf(_SC_CLK_TCK)); }

}  // namespace

CpuTimes parse_cpu_times(const std::string& stat, const std::string& process_stat) {
  CpuTimes times;
  // proc(5): cpu user nice system idle iowait irq softirq steal; guest time is part of user.
  std::istringstream line(stat);
  std::string name;
  line >> name;
  double ticks[8] = {};
  for (double& value : ticks) line >> value;
  times.busy_s = (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * tick_s();
  times.steal_s = ticks[7] * tick_s();
  times.total_s = times.busy_s + times.steal_s + (ticks[3] + ticks[4]) * tick_s();
  // proc(5), pid/stat: fields 14 and 15, counted from 1; the second may hold spaces.
  const size_t end = process_stat.rfind(')');
  if (end == std::string::npos) return times;
  std::istringstream fields(process_stat.substr(end + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  double user = 0.0, system = 0.0;
  if (fields >> user >> system) times.own_s = (user + system) * tick_s();
  return times;
}

CpuTimes read_cpu_times() {
  return parse_cpu_times(read_proc("/proc/stat"), read_proc("/proc/self/stat"));
}

std::optional<double> others_share(const CpuTimes& before, const CpuTimes& after) {
  const double total_s = after.total_s - before.total_s;
  if (!(total_s > 0.0)) return std::nullopt;
  const double busy_s = after.busy_s - before.busy_s;
  const double own_s = after.own_s - before.own_s;
  return std::clamp((busy_s - own_s + after.steal_s - before.steal_s) / total_s, 0.0, 1.0);
}

}  // namespace quench
