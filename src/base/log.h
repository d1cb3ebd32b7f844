// Logging: one spdlog logger on stderr. Results go to stdout and never through here. Off below
// "warn" by default, so that a program that pipes quench sees only what it must.
#pragma once

#include <spdlog/spdlog.h>

namespace quench {

// Called once by main. level: "error", "warn", "info", "debug".
void init_log(const std::string& level);

}  // namespace quench
