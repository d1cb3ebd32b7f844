// Telemetry: what Linux tells of the machine while something is measured: who uses the processors,
// memory, clocks, temperature, throttling, energy. MachineReader reads once; Telemetry is a thread
// that reads every 100 ms into a series. What a machine does not tell is null.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"

namespace quench {

// One reading. Counters only grow; two readings make a share or a rate.
struct MachineReading {
  double time_s = 0.0;  // steady clock
  // CPU time of the whole machine since it started, all CPUs together.
  double busy_s = 0.0;                       // in any process or the kernel, steal left out
  double steal_s = 0.0;                      // a hypervisor gave it to somebody else
  double total_s = 0.0;                      // idle time included
  double own_s = 0.0;                        // of it, in the process that is watched
  std::optional<int64_t> memory_bytes;       // anonymous, resident, of the process that is watched
  std::optional<int64_t> memory_used_bytes;  // of the machine: total minus available
  std::optional<int64_t> major_faults;       // pages that had to be read from a disk
  std::optional<double> clock_ghz;           // mean over CPUs
  std::optional<double> temperature_c;       // of the hottest zone
  std::optional<int64_t> throttle_count;     // thermal, all cores and packages
  std::optional<double> quota_throttled_s;   // time the cgroup's quota has taken away
  std::optional<double> energy_j;            // of processor packages and memory (RAPL)
  std::optional<int64_t> traffic_bytes;      // read and written to memory by all (resctrl's MBM)
};

class MachineReader {
 public:
  // `root` stands before every path, for tests. pid 0: this process.
  explicit MachineReader(std::string root = "", int pid = 0);
  // false: only what is quick to read (/proc/stat, memory, energy); the rest is null.
  MachineReading read(bool with_slow = true);

 private:
  struct EnergyZone {
    std::string path;
    uint64_t range_uj;  // the counter wraps here
    uint64_t last_uj;
  };
  void find_energy();
  void read_slow(MachineReading& reading) const;
  std::optional<double> read_energy();

  const std::string root_;
  const std::string process_;  // "/proc/self" or "/proc/PID"
  std::vector<EnergyZone> zones_;
  double energy_j_ = 0.0;
};

// The time between two readings as shares and rates.
struct MachineInterval {
  double time_s = 0.0;  // of its end, steady clock
  double duration_s = 0.0;
  std::optional<double> busy_share;    // of the machine's CPU time, all processes; null: no time
  std::optional<double> own_share;     // of it by the process that is watched
  std::optional<double> others_share;  // of it by everybody else
  std::optional<double> steal_share;
  std::optional<double> power_w;
  std::optional<double> traffic_gb_s;
};
MachineInterval between(const MachineReading& before, const MachineReading& after);

// One row of the series.
struct TelemetrySample {
  MachineReading reading;
  MachineInterval interval;         // since the sample before
  std::optional<double> read_gb_s;  // what the model had to read meanwhile, by its plan
};

// How a machine was while something was measured.
struct MachineState {
  MachineInterval during;
  std::optional<int64_t> memory_peak_bytes;  // of this process, RssAnon
  std::optional<double> clock_ghz_min, clock_ghz_median, clock_ghz_max;
  std::optional<double> temperature_max_c;
  std::optional<int64_t> throttle_events;
  std::optional<double> quota_throttled_s;
  std::optional<int64_t> major_faults;
  std::optional<double> energy_j;
};

class Telemetry {
 public:
  static constexpr double kIntervalS = 0.1;

  // Starts reading at once.
  explicit Telemetry(std::string root = "");
  ~Telemetry();
  Telemetry(const Telemetry&) = delete;
  Telemetry& operator=(const Telemetry&) = delete;

  // Ends the thread; further calls do nothing.
  void stop();
  // So far; any thread.
  std::vector<TelemetrySample> samples() const;

 private:
  void loop();

  MachineReader reader_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;                     // guarded by mutex_, as samples_
  std::vector<TelemetrySample> samples_;  // the first has no interval
  std::thread thread_;
};

// Over the samples in [begin_s, end_s] of the steady clock, and the readings at both ends.
MachineState machine_state(const std::vector<TelemetrySample>& samples,
                           const MachineReading& before, const MachineReading& after);
// What the processors took between two moments, by the samples around them; null where the machine
// does not tell.
std::optional<double> energy_between(const std::vector<TelemetrySample>& samples, double begin_s,
                                     double end_s);
Json state_json(const MachineState& state);
// Columns of equal length; "read_share" is read_gb_s over ceiling_gb_s (null: unknown).
Json series_json(const std::vector<TelemetrySample>& samples, std::optional<double> ceiling_gb_s);

}  // namespace quench
