#include "base/topology.h"

#include <hwloc.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/cgroup.h"

namespace quench {
namespace {

class Hwloc {
 public:
  Hwloc() {
    // Its plug-ins (OpenCL, GL, PCI) take 50 ms to load, to find devices that nobody asks for here;
    // its x86 part runs CPUID on every CPU in turn and tells nothing that Linux does not.
    ::setenv("HWLOC_PLUGINS_PATH", "/nonexistent", 0);
    if (hwloc_topology_init(&handle_) != 0) return;
    hwloc_topology_set_components(handle_, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    is_loaded_ = hwloc_topology_load(handle_) == 0;
  }
  ~Hwloc() {
    if (handle_ != nullptr) hwloc_topology_destroy(handle_);
  }
  Hwloc(const Hwloc&) = delete;
  Hwloc& operator=(const Hwloc&) = delete;

  Topology read() const {
    Topology result;
    hwloc_cpuset_t mask = hwloc_bitmap_alloc();
    if (is_loaded_ && hwloc_get_cpubind(handle_, mask, HWLOC_CPUBIND_PROCESS) == 0) {
      const hwloc_const_cpuset_t all = hwloc_topology_get_topology_cpuset(handle_);
      result.mask_is_narrowed = hwloc_bitmap_isincluded(all, mask) == 0;
      read_cores(mask, result);
      result.l2_bytes = largest_cache(HWLOC_OBJ_L2CACHE, mask);
      result.l3_bytes = sum_caches(HWLOC_OBJ_L3CACHE, mask);
    }
    hwloc_bitmap_free(mask);
    return result;
  }

 private:
  void read_cores(hwloc_const_cpuset_t mask, Topology& result) const {
    hwloc_cpuset_t usable = hwloc_bitmap_alloc();
    for (hwloc_obj_t core = nullptr;
         (core = hwloc_get_next_obj_by_type(handle_, HWLOC_OBJ_CORE, core)) != nullptr;) {
      hwloc_bitmap_and(usable, core->cpuset, mask);
      if (const int cpu = hwloc_bitmap_first(usable); cpu >= 0) result.core_cpus.push_back(cpu);
    }
    hwloc_bitmap_free(usable);
  }

  int64_t largest_cache(hwloc_obj_type_t type, hwloc_const_cpuset_t mask) const {
    int64_t largest = 0;
    for (hwloc_obj_t cache = nullptr; (cache = next(type, mask, cache)) != nullptr;)
      largest = std::max(largest, static_cast<int64_t>(cache->attr->cache.size));
    return largest;
  }

  int64_t sum_caches(hwloc_obj_type_t type, hwloc_const_cpuset_t mask) const {
    int64_t sum = 0;
    for (hwloc_obj_t cache = nullptr; (cache = next(type, mask, cache)) != nullptr;)
      sum += static_cast<int64_t>(cache->attr->cache.size);
    return sum;
  }

  // The next object of the type that a CPU of the mask uses.
  hwloc_obj_t next(hwloc_obj_type_t type, hwloc_const_cpuset_t mask, hwloc_obj_t object) const {
    do {
      object = hwloc_get_next_obj_by_type(handle_, type, object);
    } while (object != nullptr && hwloc_bitmap_intersects(object->cpuset, mask) == 0);
    return object;
  }

  hwloc_topology_t handle_ = nullptr;
  bool is_loaded_ = false;
};

}  // namespace

const Topology& topology() {
  static const Topology read = Hwloc().read();
  return read;
}

int available_cpus() {
  const double cores = std::max<double>(1.0, static_cast<double>(topology().core_cpus.size()));
  const double quota = std::floor(cgroup_cpu_quota().value_or(cores) + 0.5);
  return static_cast<int>(std::clamp(quota, 1.0, cores));
}

std::vector<int> pin_cpus(int num_threads) {
  const std::vector<int>& cores = topology().core_cpus;
  const auto members = static_cast<size_t>(num_threads);
  if (cores.size() < 2 || members < cores.size() || topology().mask_is_narrowed) return {};
  std::vector<int> cpus(members);
  for (size_t i = 0; i < members; ++i) cpus[i] = cores[i % cores.size()];
  return cpus;
}

}  // namespace quench
