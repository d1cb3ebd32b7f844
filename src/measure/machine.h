// The machine a measurement was made on, as Linux tells it. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace quench {

struct Machine {
  std::string cpu_model;  // empty: unknown
  int cpus = 0;           // that this process may use
  std::optional<int64_t> memory_bytes;
};
Machine this_machine();

// Memory that can be taken without swapping: MemAvailable, or what the memory cgroup leaves, if
// that is less.
std::optional<int64_t> available_memory_bytes();

// Anonymous memory of this process that is resident now (RssAnon): not the mapped files, which the
// kernel can drop.
std::optional<int64_t> anonymous_memory_bytes();

// The number in a line such as "RssAnon:   1234 kB" of a file in /proc, in bytes.
std::optional<int64_t> find_kilobytes(const std::string& text, const std::string& key);

std::string first_line(const std::string& text);
// The whole number that a text begins with.
std::optional<int64_t> leading_number(const std::string& text);

}  // namespace quench
