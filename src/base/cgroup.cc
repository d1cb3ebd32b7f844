#include "base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <vector>

namespace quench {
namespace {

// A mounted hierarchy (proc(5), mountinfo) that can hold limits of a controller.
struct Hierarchy {
  bool is_v2;
  std::string mount_root;   // the group that is mounted: "/", or a container's own group
  std::string mount_point;  // where
};

bool has_word(const std::string& list, const std::string& word) {
  std::istringstream words(list);
  for (std::string one; std::getline(words, one, ',');) {
    if (one == word) return true;
  }
  return false;
}

// Lines: id parent major:minor root mount_point options [tags...] - type source super_options.
std::vector<Hierarchy> read_hierarchies(const std::string& root, const char* controller) {
  std::vector<Hierarchy> found;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string skipped, mount_root, mount_point, type, super_options;
    fields >> skipped >> skipped >> skipped >> mount_root >> mount_point;
    while (fields >> skipped && skipped != "-") continue;
    fields >> type >> skipped >> super_options;
    const bool is_v2 = type == "cgroup2";
    if (!is_v2 && (type != "cgroup" || !has_word(super_options, controller))) continue;
    found.push_back({is_v2, mount_root, mount_point});
  }
  return found;
}

// The process's group in the hierarchy, from /proc/self/cgroup: "0::/path" for v2,
// "id:controller,controller:/path" for v1 (cgroups(7)).
std::optional<std::string> own_group(const std::string& root, const char* controller, bool is_v2) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool matches = is_v2 ? controllers.empty() : has_word(controllers, controller);
    if (matches) return line.substr(second + 1);
  }
  return std::nullopt;
}

std::optional<double> read_number(const std::string& word) {
  double value = 0.0;
  const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  // "max" is no number, and -1 is v1's way to say the same.
  return error == std::errc() && value > 0.0 ? std::optional(value) : std::nullopt;
}

std::optional<double> quota_of(const std::string& group, bool is_v2) {
  std::string quota, period;
  if (is_v2) {
    std::ifstream(group + "/cpu.max") >> quota >> period;
  } else {
    std::ifstream(group + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(group + "/cpu.cfs_period_us") >> period;
  }
  const auto quota_us = read_number(quota);
  const auto period_us = read_number(period);
  return quota_us && period_us ? std::optional(*quota_us / *period_us) : std::nullopt;
}

std::optional<double> memory_of(const std::string& group, bool is_v2) {
  std::string bytes;
  std::ifstream(group + (is_v2 ? "/memory.max" : "/memory.limit_in_bytes")) >> bytes;
  return read_number(bytes);
}

// The least limit of the process's own group and of all groups around it.
std::optional<double> least_limit(const std::string& root, const char* controller,
                                  std::optional<double> (*limit_of)(const std::string&, bool)) {
  std::optional<double> least;
  for (const Hierarchy& hierarchy : read_hierarchies(root, controller)) {
    std::string group = own_group(root, controller, hierarchy.is_v2).value_or("/");
    // What is mounted may be a group inside the hierarchy; a group outside of it ("/../x", or a
    // path that does not lie under the mount's root) cannot be seen: then the mount is all there
    // is.
    const std::string& outer = hierarchy.mount_root;
    if (outer != "/") group = group.starts_with(outer) ? group.substr(outer.size()) : "";
    if (group.starts_with("/..")) group.clear();
    while (group.ends_with('/')) group.pop_back();
    for (;;) {
      const auto limit = limit_of(root + hierarchy.mount_point + group, hierarchy.is_v2);
      if (limit) least = std::min(least.value_or(*limit), *limit);
      if (group.empty()) break;
      group.resize(group.rfind('/'));
    }
  }
  return least;
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const std::string& root) {
  return least_limit(root, "cpu", quota_of);
}

std::optional<double> cgroup_memory_bytes(const std::string& root) {
  return least_limit(root, "memory", memory_of);
}

}  // namespace quench
