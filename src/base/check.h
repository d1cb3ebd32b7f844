// QUENCH_CHECK(condition, "format", values...): a bug in quench prints where and what, then aborts.
// No input of a user may reach it; what comes from outside is validated and answered with a Result.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace quench {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message);

}  // namespace quench

#define QUENCH_CHECK(condition, ...)                                                      \
  do {                                                                                    \
    if (!(condition)) [[unlikely]]                                                        \
      ::quench::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)
