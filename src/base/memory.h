// How much memory this machine has. Any thread.
#pragma once

#include <cstdint>

namespace quench {

// Of the machine, or what the memory cgroups grant that this process is in, if that is less.
int64_t physical_memory_bytes();

}  // namespace quench
