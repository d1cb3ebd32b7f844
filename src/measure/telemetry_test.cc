#include "measure/telemetry.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "io/raw_safetensors.h"

namespace quench {
namespace {

// A machine made of files.
class TelemetryFiles : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = scratch_.path() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  const ScratchDir scratch_;
};

TEST_F(TelemetryFiles, ReadsWhatLinuxTells) {
  write("/proc/stat", "cpu  100 20 30 800 50 3 7 40 9 9\ncpu0 1 1 1 1\n");
  write("/proc/self/stat", "42 (a name) with ) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20\n");
  write("/proc/self/status", "Name:\tx\nRssAnon:\t 2048 kB\n");
  write("/proc/meminfo", "MemTotal:  1000 kB\nMemAvailable:  400 kB\n");
  write("/proc/self/cgroup", "0::/one/two\n");
  write("/sys/fs/cgroup/one/two/cpu.stat",
        "usage_usec 7\nnr_throttled 2\nthrottled_usec 1500000\n");
  write("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2000000\n");
  write("/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "3000000\n");
  write("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n");
  write("/sys/class/thermal/thermal_zone0/temp", "41000\n");
  write("/sys/class/thermal/thermal_zone1/temp", "57500\n");
  write("/sys/fs/resctrl/mon_data/mon_L3_00/mbm_total_bytes", "1000\n");
  write("/sys/fs/resctrl/mon_data/mon_L3_01/mbm_total_bytes", "500\n");
  const MachineReading reading = MachineReader(scratch_.path()).read();
  const double tick_s = 1.0 / static_cast<double>(::sysconf(_SC_CLK_TCK));
  EXPECT_DOUBLE_EQ(reading.busy_s, 160 * tick_s);
  EXPECT_DOUBLE_EQ(reading.steal_s, 40 * tick_s);
  EXPECT_DOUBLE_EQ(reading.total_s, 1050 * tick_s);
  EXPECT_EQ(reading.memory_bytes, 2048 * 1024);
  EXPECT_EQ(reading.memory_used_bytes, 600 * 1024);
  EXPECT_EQ(reading.quota_throttled_s, 1.5);
  EXPECT_EQ(reading.clock_ghz, 2.5);
  EXPECT_EQ(reading.throttle_count, 3);
  EXPECT_EQ(reading.temperature_c, 57.5);
  EXPECT_EQ(reading.traffic_bytes, 1500);
  EXPECT_FALSE(reading.energy_j);
}

TEST_F(TelemetryFiles, OwnTimesAreFields14And15) {
  write("/proc/7/stat", "7 (x) S 1 2 3 4 5 6 7 8 95 10 250 50 0 0\n");
  const MachineReading reading = MachineReader(scratch_.path(), 7).read();
  EXPECT_DOUBLE_EQ(reading.own_s, 300.0 / static_cast<double>(::sysconf(_SC_CLK_TCK)));
  EXPECT_EQ(reading.major_faults, 95);
}

TEST_F(TelemetryFiles, EnergyAddsPackagesAndMemoryAndWraps) {
  const std::string zone = "/sys/class/powercap/intel-rapl:";
  for (const char* name : {"0", "0:0", "0:1", "1"}) {
    write(zone + name + "/max_energy_range_uj", "10000000\n");
    write(zone + name + "/energy_uj", "9000000\n");
  }
  write(zone + "0/name", "package-0\n");
  write(zone + "0:0/name", "core\n");  // a part of its package
  write(zone + "0:1/name", "dram\n");
  write(zone + "1/name", "package-1\n");
  MachineReader reader(scratch_.path());
  EXPECT_EQ(reader.read().energy_j, 0.0);
  write(zone + "0/energy_uj", "9500000\n");
  write(zone + "0:0/energy_uj", "9900000\n");
  write(zone + "1/energy_uj", "1000000\n");  // past 10 J, from 0 again
  EXPECT_NEAR(*reader.read().energy_j, 0.5 + 2.0, 1e-9);
}

TEST(Telemetry, SharesBetweenTwoReadings) {
  MachineReading before, after;
  before.time_s = 10.0;
  before.energy_j = 5.0;
  after.time_s = 12.0;
  after.energy_j = 65.0;
  after.total_s = 4.0;  // two CPUs
  after.busy_s = 3.0;
  after.own_s = 2.0;
  after.steal_s = 0.2;
  const MachineInterval interval = between(before, after);
  EXPECT_DOUBLE_EQ(*interval.busy_share, 0.75);
  EXPECT_DOUBLE_EQ(*interval.own_share, 0.5);
  EXPECT_DOUBLE_EQ(*interval.others_share, 0.25);
  EXPECT_DOUBLE_EQ(*interval.steal_share, 0.05);
  EXPECT_DOUBLE_EQ(*interval.power_w, 30.0);
  EXPECT_FALSE(interval.traffic_gb_s);
  EXPECT_FALSE(between(before, before).busy_share);
}

std::vector<TelemetrySample> samples_at(const std::vector<double>& times_s) {
  std::vector<TelemetrySample> samples;
  for (const double time_s : times_s) {
    TelemetrySample& sample = samples.emplace_back();
    sample.reading.time_s = time_s;
    sample.reading.energy_j = 10.0 * time_s;
    sample.reading.memory_bytes = static_cast<int64_t>(100 * time_s);
    if (samples.size() > 1) sample.interval = between((&sample - 1)->reading, sample.reading);
  }
  return samples;
}

TEST(Telemetry, EnergyOfARunLiesBetweenSamples) {
  const auto samples = samples_at({1.0, 2.0, 3.0});
  EXPECT_NEAR(*energy_between(samples, 1.25, 2.75), 15.0, 1e-9);
  EXPECT_NEAR(*energy_between(samples, 2.1, 2.2), 1.0, 1e-9);
  EXPECT_FALSE(energy_between({}, 0.0, 1.0));
}

TEST(Telemetry, StateAndSeries) {
  auto samples = samples_at({1.0, 2.0, 3.0});
  samples[1].reading.clock_ghz = 2.0;
  samples[2].read_gb_s = 25.0;
  const MachineState state =
      machine_state(samples, samples.front().reading, samples.back().reading);
  EXPECT_EQ(state.memory_peak_bytes, 300);
  EXPECT_EQ(state.clock_ghz_median, 2.0);
  EXPECT_NEAR(*state.energy_j, 20.0, 1e-9);
  EXPECT_TRUE(state_json(state)["throttle_events"].is_null());
  const Json series = series_json(samples, 50.0);
  for (const auto& [key, column] : series["columns"].items()) EXPECT_EQ(column.size(), 2u) << key;
  EXPECT_EQ(series["columns"]["read_share"], Json::array({nullptr, 0.5}));
  EXPECT_EQ(series["columns"]["time_s"], Json::array({1.0, 2.0}));
  EXPECT_TRUE(series_json({}, 50.0).is_null());
}

TEST(Telemetry, WatchesThisMachine) {
  Telemetry telemetry;
  while (telemetry.samples().size() < 2) std::this_thread::yield();
  telemetry.stop();
  const auto samples = telemetry.samples();
  EXPECT_GT(samples.back().reading.total_s, 0.0);
  EXPECT_GT(samples.back().reading.memory_bytes.value_or(0), 0);
  EXPECT_GE(samples.back().reading.time_s, samples.front().reading.time_s);
}

}  // namespace
}  // namespace quench
