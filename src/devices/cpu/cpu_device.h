// The CPU as a Device: a thread team, 64-byte aligned memory, and the ops of the best (or the
// forced) ISA level.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "devices/device.h"

namespace quench {

Result<std::unique_ptr<Device>> open_cpu_device(const DeviceOptions& options);

// One line: the model name and the ISA level that would be chosen.
std::string describe_cpu();
// The ISA levels that this CPU has, lowest first.
std::vector<std::string> cpu_levels();

}  // namespace quench
