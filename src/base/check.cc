#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace quench {

void check_failed(const char* file, int line, const char* condition, std::string_view message) {
  std::fprintf(stderr, "%s:%d: QUENCH_CHECK(%s) failed: %.*s\nThis is a bug in quench.\n", file,
               line, condition, static_cast<int>(message.size()), message.data());
  std::abort();
}

}  // namespace quench
