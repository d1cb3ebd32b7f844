#include "measure/machine.h"

#include <algorithm>
#include <charconv>

#include "base/cpuinfo.h"
#include "base/file.h"
#include "base/topology.h"

namespace quench {

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::optional<int64_t> leading_number(const std::string& text) {
  int64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<int64_t> find_kilobytes(const std::string& text, const std::string& key) {
  const std::string prefix = key + ":";
  size_t at = text.starts_with(prefix) ? 0 : text.find("\n" + prefix);
  if (at == std::string::npos) return std::nullopt;
  at = text.find_first_of("0123456789\n", text.find(':', at));
  if (at == std::string::npos) return std::nullopt;
  const auto kilobytes = leading_number(text.substr(at, 20));
  return kilobytes ? std::optional(*kilobytes * 1024) : std::nullopt;
}

Machine this_machine() {
  Machine machine;
  machine.cpus = available_cpus();
  machine.memory_bytes = find_kilobytes(read_proc("/proc/meminfo"), "MemTotal");
  machine.cpu_model = cpu_model();
  return machine;
}

std::optional<int64_t> available_memory_bytes() {
  auto available = find_kilobytes(read_proc("/proc/meminfo"), "MemAvailable");
  // "max" where there is no limit.
  const auto limit = leading_number(read_proc("/sys/fs/cgroup/memory.max"));
  const auto used = leading_number(read_proc("/sys/fs/cgroup/memory.current"));
  if (available && limit && used)
    available = std::min(*available, std::max<int64_t>(*limit - *used, 0));
  return available;
}

std::optional<int64_t> anonymous_memory_bytes() {
  return find_kilobytes(read_proc("/proc/self/status"), "RssAnon");
}

}  // namespace quench
