#include "base/memory.h"

#include <unistd.h>

#include "base/cgroup.h"

namespace quench {

int64_t physical_memory_bytes() {
  const int64_t machine = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  const double limit = cgroup_memory_bytes().value_or(static_cast<double>(machine));
  return limit < static_cast<double>(machine) ? static_cast<int64_t>(limit) : machine;
}

}  // namespace quench
