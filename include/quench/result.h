// Result<T>: what every function returns that can fail because of the world (a file, a model,
// memory, a device, a request). Bugs are not results: they end in QUENCH_CHECK (base/check.h).
#pragma once

#include <string>
#include <tl/expected.hpp>

namespace quench {

// One table (base/result.cc) maps each code to an exit status and an HTTP status.
enum class ErrorCode {
  kInvalidArgument,    // a flag, a setting or a request is wrong
  kNotFound,           // a file, a model, a name in a registry does not exist
  kInvalidFile,        // a file exists but its bytes are not what its format says
  kUnsupported,        // well-formed, but quench cannot do it
  kOutOfMemory,        // it does not fit; the message says what would
  kDeviceUnavailable,  // the device is missing, busy or too old
  kIo,                 // reading or writing failed
  kCancelled,          // the user stopped it
  kInternal,           // a broken invariant found before it did harm
};

// The message is one sentence: what, where, expected, found, what to do. It ends with a full stop.
struct Error {
  ErrorCode code;
  std::string message;
};

template <class T>
using Result = tl::expected<T, Error>;

// The name of a code as it stands in JSON output, e.g. "invalid_file".
const char* error_name(ErrorCode code);
// 1 for every code but kInvalidArgument on the command line itself, which is 2 and decided by the
// parser.
int exit_status(ErrorCode code);
int http_status(ErrorCode code);

}  // namespace quench
