#include "measure/telemetry.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "base/clock.h"
#include "base/cpu_times.h"
#include "base/file.h"
#include "measure/machine.h"
#include "measure/statistics.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Readings between two with the slow ones: once a second.
constexpr size_t kSlowEvery = 10;

// Files of a directory whose name begins so; none where there is no such directory.
std::vector<std::string> entries(const std::string& dir, const std::string& prefix) {
  std::vector<std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error)) {
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::optional<int64_t> number_in(const std::string& path) {
  return leading_number(read_proc(path));
}

// The value of a line "key value" of a text.
std::optional<int64_t> value_of(const std::string& text, const std::string& key) {
  const size_t at = ("\n" + text).find("\n" + key + " ");
  return at == std::string::npos ? std::nullopt : leading_number(text.substr(at + key.size() + 1));
}

// proc(5), pid/stat: field 12, counted from 1; the second may hold spaces.
std::optional<int64_t> major_faults_of(const std::string& stat) {
  const size_t end = stat.rfind(')');
  if (end == std::string::npos) return std::nullopt;
  std::istringstream fields(stat.substr(end + 1));
  std::string skipped;
  for (int i = 3; i < 12; ++i) fields >> skipped;
  int64_t major_faults = 0;
  return fields >> major_faults ? std::optional(major_faults) : std::nullopt;
}

std::optional<double> mean_clock_ghz(const std::string& root) {
  double sum = 0.0;
  int count = 0;
  for (const std::string& cpu : entries(root + "/sys/devices/system/cpu", "cpu")) {
    if (const auto khz = number_in(cpu + "/cpufreq/scaling_cur_freq")) {
      sum += static_cast<double>(*khz) / 1e6;
      ++count;
    }
  }
  if (count == 0) {
    std::istringstream info(read_proc(root + "/proc/cpuinfo"));
    for (std::string line; std::getline(info, line);) {
      if (!line.starts_with("cpu MHz")) continue;
      std::istringstream value(line.substr(line.find(':') + 1));
      double mhz = 0.0;
      if (!(value >> mhz)) continue;
      sum += mhz / 1e3;
      ++count;
    }
  }
  return count > 0 ? std::optional(sum / count) : std::nullopt;
}

std::optional<double> share(double part, double whole) {
  return whole > 0.0 ? std::optional(std::clamp(part / whole, 0.0, 1.0)) : std::nullopt;
}

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

// Four digits are enough for a plot and a third of the text.
Json rounded(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return {};
  if (*value == 0.0) return 0.0;
  const double unit = std::pow(10.0, std::floor(std::log10(std::fabs(*value))) - 3.0);
  return std::round(*value / unit) * unit;
}

}  // namespace

MachineReader::MachineReader(std::string root, int pid)
    : root_(std::move(root)),
      process_(root_ + (pid == 0 ? "/proc/self" : "/proc/" + std::to_string(pid))) {
  find_energy();
}

// Linux's powercap, intel-rapl:N (also on AMD): a package each, with its memory, where that has a
// counter, as intel-rapl:N:M named "dram". The other zones are parts of their package.
void MachineReader::find_energy() {
  for (const std::string& dir : entries(root_ + "/sys/class/powercap", "intel-rapl:")) {
    const std::string name = read_proc(dir + "/name");
    const auto range = number_in(dir + "/max_energy_range_uj");
    const auto now = number_in(dir + "/energy_uj");  // root only on many systems
    if ((name.starts_with("package") || name.starts_with("dram")) && range && now)
      zones_.push_back(
          {dir + "/energy_uj", static_cast<uint64_t>(*range), static_cast<uint64_t>(*now)});
  }
}

std::optional<double> MachineReader::read_energy() {
  if (zones_.empty()) return std::nullopt;
  for (EnergyZone& zone : zones_) {
    const auto now = number_in(zone.path);
    if (!now) continue;
    const auto now_uj = static_cast<uint64_t>(*now);
    const uint64_t gone =
        now_uj >= zone.last_uj ? now_uj - zone.last_uj : now_uj + zone.range_uj - zone.last_uj;
    zone.last_uj = now_uj;
    energy_j_ += static_cast<double>(gone) * 1e-6;
  }
  return energy_j_;
}

void MachineReader::read_slow(MachineReading& reading) const {
  reading.clock_ghz = mean_clock_ghz(root_);
  for (const std::string& zone : entries(root_ + "/sys/class/thermal", "thermal_zone")) {
    if (const auto milli = number_in(zone + "/temp"))
      reading.temperature_c =
          std::max(reading.temperature_c.value_or(-273.15), static_cast<double>(*milli) / 1e3);
  }
  for (const std::string& cpu : entries(root_ + "/sys/devices/system/cpu", "cpu")) {
    if (const auto count = number_in(cpu + "/thermal_throttle/core_throttle_count"))
      reading.throttle_count = reading.throttle_count.value_or(0) + *count;
  }
  // "0::/path" of cgroups v2.
  std::istringstream groups(read_proc(process_ + "/cgroup"));
  for (std::string line; std::getline(groups, line);) {
    if (!line.starts_with("0::")) continue;
    const std::string stat = read_proc(root_ + "/sys/fs/cgroup" + line.substr(3) + "/cpu.stat");
    if (const auto throttled = value_of(stat, "throttled_usec"))
      reading.quota_throttled_s = static_cast<double>(*throttled) * 1e-6;
  }
}

MachineReading MachineReader::read(bool with_slow) {
  MachineReading reading;
  reading.time_s = now_s();
  const std::string process_stat = read_proc(process_ + "/stat");
  const CpuTimes times = parse_cpu_times(read_proc(root_ + "/proc/stat"), process_stat);
  reading.busy_s = times.busy_s;
  reading.steal_s = times.steal_s;
  reading.total_s = times.total_s;
  reading.own_s = times.own_s;
  reading.major_faults = major_faults_of(process_stat);
  reading.memory_bytes = find_kilobytes(read_proc(process_ + "/status"), "RssAnon");
  const std::string memory = read_proc(root_ + "/proc/meminfo");
  const auto total = find_kilobytes(memory, "MemTotal");
  const auto available = find_kilobytes(memory, "MemAvailable");
  if (total && available) reading.memory_used_bytes = *total - *available;
  reading.energy_j = read_energy();
  // Memory bandwidth monitoring, where resctrl is mounted (Linux, x86/resctrl).
  for (const std::string& domain : entries(root_ + "/sys/fs/resctrl/mon_data", "mon_L3_")) {
    if (const auto bytes = number_in(domain + "/mbm_total_bytes"))
      reading.traffic_bytes = reading.traffic_bytes.value_or(0) + *bytes;
  }
  if (with_slow) read_slow(reading);
  return reading;
}

MachineInterval between(const MachineReading& before, const MachineReading& after) {
  MachineInterval interval;
  interval.time_s = after.time_s;
  interval.duration_s = after.time_s - before.time_s;
  const double total_s = after.total_s - before.total_s;
  const double busy_s = after.busy_s - before.busy_s;
  const double own_s = after.own_s - before.own_s;
  interval.busy_share = share(busy_s, total_s);
  interval.own_share = share(own_s, total_s);
  interval.others_share = share(busy_s - own_s, total_s);
  interval.steal_share = share(after.steal_s - before.steal_s, total_s);
  if (interval.duration_s <= 0.0) return interval;
  if (before.energy_j && after.energy_j)
    interval.power_w = (*after.energy_j - *before.energy_j) / interval.duration_s;
  if (before.traffic_bytes && after.traffic_bytes && *after.traffic_bytes >= *before.traffic_bytes)
    interval.traffic_gb_s = static_cast<double>(*after.traffic_bytes - *before.traffic_bytes) /
                            interval.duration_s / 1e9;
  return interval;
}

Telemetry::Telemetry(std::string root) : reader_(std::move(root)) {
  samples_.emplace_back().reading = reader_.read();
  thread_ = std::thread([this] { loop(); });
}

Telemetry::~Telemetry() { stop(); }

void Telemetry::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::vector<TelemetrySample> Telemetry::samples() const {
  const std::lock_guard lock(mutex_);
  return samples_;
}

void Telemetry::loop() {
  std::unique_lock lock(mutex_);
  auto next = std::chrono::steady_clock::now();
  for (;;) {
    next += std::chrono::duration_cast<std::chrono::steady_clock::duration>(
        std::chrono::duration<double>(kIntervalS));
    // A machine that is too busy to keep up gets fewer samples, not a burst of them.
    next = std::max(next, std::chrono::steady_clock::now());
    if (wake_.wait_until(lock, next, [&] { return stop_; })) return;
    const bool with_slow = samples_.size() % kSlowEvery == 0;
    lock.unlock();
    TelemetrySample sample;
    sample.reading = reader_.read(with_slow);
    lock.lock();
    sample.interval = between(samples_.back().reading, sample.reading);
    samples_.push_back(sample);
  }
}

MachineState machine_state(const std::vector<TelemetrySample>& samples,
                           const MachineReading& before, const MachineReading& after) {
  MachineState state;
  state.during = between(before, after);
  std::vector<double> clocks;
  auto look = [&](const MachineReading& reading) {
    if (reading.clock_ghz) clocks.push_back(*reading.clock_ghz);
    if (reading.temperature_c)
      state.temperature_max_c =
          std::max(state.temperature_max_c.value_or(-273.15), *reading.temperature_c);
    if (reading.memory_bytes)
      state.memory_peak_bytes =
          std::max(state.memory_peak_bytes.value_or(0), *reading.memory_bytes);
  };
  look(before);
  look(after);
  for (const TelemetrySample& sample : samples) {
    if (sample.reading.time_s >= before.time_s && sample.reading.time_s <= after.time_s)
      look(sample.reading);
  }
  if (!clocks.empty()) {
    state.clock_ghz_min = *std::min_element(clocks.begin(), clocks.end());
    state.clock_ghz_median = median(clocks);
    state.clock_ghz_max = *std::max_element(clocks.begin(), clocks.end());
  }
  auto grown = [](const auto& from, const auto& to) {
    return from && to ? std::optional(*to - *from) : std::nullopt;
  };
  state.throttle_events = grown(before.throttle_count, after.throttle_count);
  state.quota_throttled_s = grown(before.quota_throttled_s, after.quota_throttled_s);
  state.major_faults = grown(before.major_faults, after.major_faults);
  state.energy_j = grown(before.energy_j, after.energy_j);
  return state;
}

std::optional<double> energy_between(const std::vector<TelemetrySample>& samples, double begin_s,
                                     double end_s) {
  std::optional<double> at_begin, at_end;
  for (size_t i = 1; i < samples.size(); ++i) {
    const MachineReading& from = samples[i - 1].reading;
    const MachineReading& to = samples[i].reading;
    if (!from.energy_j || !to.energy_j) return std::nullopt;
    auto energy_at = [&](double time_s) {
      const double part = (time_s - from.time_s) / std::max(to.time_s - from.time_s, 1e-9);
      return *from.energy_j + std::clamp(part, 0.0, 1.0) * (*to.energy_j - *from.energy_j);
    };
    if (!at_begin && begin_s <= to.time_s) at_begin = energy_at(begin_s);
    if (begin_s <= to.time_s && from.time_s <= end_s) at_end = energy_at(end_s);
  }
  return at_begin && at_end ? std::optional(*at_end - *at_begin) : std::nullopt;
}

Json state_json(const MachineState& state) {
  const MachineInterval& during = state.during;
  return {{"duration_s", during.duration_s},
          {"busy_share", or_null(during.busy_share)},
          {"own_share", or_null(during.own_share)},
          {"others_share", or_null(during.others_share)},
          {"steal_share", or_null(during.steal_share)},
          {"clock_ghz", state.clock_ghz_median ? Json({{"min", *state.clock_ghz_min},
                                                       {"median", *state.clock_ghz_median},
                                                       {"max", *state.clock_ghz_max}})
                                               : Json()},
          {"temperature_max_c", or_null(state.temperature_max_c)},
          {"throttle_events", or_null(state.throttle_events)},
          {"quota_throttled_s", or_null(state.quota_throttled_s)},
          {"major_faults", or_null(state.major_faults)}};
}

Json series_json(const std::vector<TelemetrySample>& samples, std::optional<double> ceiling_gb_s) {
  if (samples.size() < 2) return {};
  const double start_s = samples.front().reading.time_s;
  Json columns = Json::object();
  for (const char* key :
       {"time_s", "memory_bytes", "machine_memory_bytes", "busy_share", "own_share", "steal_share",
        "clock_ghz", "power_w", "read_gb_s", "read_share", "traffic_gb_s"})
    columns[key] = Json::array();
  for (size_t i = 1; i < samples.size(); ++i) {
    const auto& [reading, interval, read_gb_s] = samples[i];
    columns["time_s"].push_back(std::round((reading.time_s - start_s) * 1e4) / 1e4);
    columns["memory_bytes"].push_back(or_null(reading.memory_bytes));
    columns["machine_memory_bytes"].push_back(or_null(reading.memory_used_bytes));
    columns["busy_share"].push_back(rounded(interval.busy_share));
    columns["own_share"].push_back(rounded(interval.own_share));
    columns["steal_share"].push_back(rounded(interval.steal_share));
    columns["clock_ghz"].push_back(rounded(reading.clock_ghz));
    columns["power_w"].push_back(rounded(interval.power_w));
    columns["read_gb_s"].push_back(rounded(read_gb_s));
    columns["read_share"].push_back(rounded(
        read_gb_s && ceiling_gb_s ? std::optional(*read_gb_s / *ceiling_gb_s) : std::nullopt));
    columns["traffic_gb_s"].push_back(rounded(interval.traffic_gb_s));
  }
  return {{"interval_s", Telemetry::kIntervalS},
          {"ceiling_gb_s", or_null(ceiling_gb_s)},
          {"columns", columns}};
}

}  // namespace quench
