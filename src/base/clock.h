// Monotonic time in seconds.
#pragma once

#include <chrono>

namespace quench {

inline double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace quench
