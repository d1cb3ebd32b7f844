// Helpers around quench::Result: fail() builds an error from a format string, QUENCH_TRY hands one
// up.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include "quench/result.h"

namespace quench {

// return fail(ErrorCode::kInvalidFile, "{}: header is {} bytes, ...", path, n);
template <class... Args>
tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

}  // namespace quench

#define QUENCH_CONCAT_(a, b) a##b
#define QUENCH_CONCAT(a, b) QUENCH_CONCAT_(a, b)

// QUENCH_TRY(auto file, MappedFile::open(path));  declares `file`, or returns the error to the
// caller.
#define QUENCH_TRY(declaration, expression)                                  \
  auto QUENCH_CONCAT(try_, __LINE__) = (expression);                         \
  if (!QUENCH_CONCAT(try_, __LINE__))                                        \
    return tl::unexpected(std::move(QUENCH_CONCAT(try_, __LINE__)).error()); \
  declaration = *std::move(QUENCH_CONCAT(try_, __LINE__))

// The same for Result<void>.
#define QUENCH_TRY_VOID(expression)                \
  if (auto try_result = (expression); !try_result) \
  return tl::unexpected(std::move(try_result).error())
