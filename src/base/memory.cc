#include "base/memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace quench {

int64_t physical_memory_bytes() {
  const int64_t machine = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  int64_t limit = 0;  // "max" when there is none, which does not parse
  std::ifstream("/sys/fs/cgroup/memory.max") >> limit;
  return limit > 0 ? std::min(machine, limit) : machine;
}

}  // namespace quench
