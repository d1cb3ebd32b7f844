#include "base/result.h"

#include "base/check.h"

namespace quench {
namespace {

struct CodeRow {
  ErrorCode code;
  const char* name;
  int exit_status;
  int http_status;
};

constexpr CodeRow kCodes[] = {
    {ErrorCode::kInvalidArgument, "invalid_argument", 1, 400},
    {ErrorCode::kNotFound, "not_found", 1, 404},
    {ErrorCode::kInvalidFile, "invalid_file", 1, 422},
    {ErrorCode::kUnsupported, "unsupported", 1, 422},
    {ErrorCode::kOutOfMemory, "out_of_memory", 1, 507},
    {ErrorCode::kDeviceUnavailable, "device_unavailable", 1, 503},
    {ErrorCode::kIo, "io", 1, 500},
    {ErrorCode::kCancelled, "cancelled", 1, 499},
    {ErrorCode::kInternal, "internal", 1, 500},
};

const CodeRow& row(ErrorCode code) {
  for (const CodeRow& candidate : kCodes) {
    if (candidate.code == code) return candidate;
  }
  QUENCH_CHECK(false, "no row for error code {}", static_cast<int>(code));
}

}  // namespace

const char* error_name(ErrorCode code) { return row(code).name; }
int exit_status(ErrorCode code) { return row(code).exit_status; }
int http_status(ErrorCode code) { return row(code).http_status; }

}  // namespace quench
