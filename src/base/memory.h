// How much memory this machine has. Any thread.
#pragma once

#include <cstdint>

namespace quench {

// Of the machine, or of the memory cgroup (v2) that this process is in, if that is less.
int64_t physical_memory_bytes();

}  // namespace quench
