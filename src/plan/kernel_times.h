// How fast the matmul kernels of a device are, as shares of its limits: one token (what decoding
// asks of a weight) against a plain read of the same bytes, many tokens (prefill) against as many
// operations of the fastest instruction. Kernel and limit take turns, a few milliseconds each, so
// that a neighbour who comes and goes disturbs both: shares are medians over turns. Drives the
// device, so one thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "plan/ceilings.h"

namespace quench {

struct KernelTime {
  std::string format;
  std::string kernel;  // the one that this device chooses for the format
  int64_t n = 0;       // of the matrix that one token is multiplied with
  int64_t k = 0;
  int64_t packed_bytes = 0;
  Rate decode_gb_s;  // packed bytes over time, m = 1
  double decode_share = 0.0;
  int64_t prefill_tokens = 0;  // 0: not timed, the kernel would take seconds
  Rate prefill_gop_s;          // a multiply and an add are two
  double prefill_share = 0.0;
};

// `formats` of weights, each by the kernel that the planner would choose; formats that cannot be
// encoded are left out. Weights are random; what one token reads is larger than the last cache.
// From `ceilings` come the caches' sizes and how memory is best read. progress(done, of, format) is
// called before each format; false stops.
Result<std::vector<KernelTime>> time_kernels(
    Device& device, const Ceilings& ceilings, const std::vector<const Format*>& formats,
    const std::function<bool(size_t, size_t, const std::string&)>& progress);

}  // namespace quench
