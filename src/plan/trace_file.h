// A Trace as a file for Perfetto or chrome://tracing: one track per worker, spans inside spans.
#pragma once

#include <string>

#include "devices/trace.h"
#include "plan/roofline.h"

namespace quench {

// The trace event format (complete events, "ph": "X", times in microseconds). Spans that have a
// cost carry read_bytes, ops and limit_share, the share of the machine's limit that they reached:
// the least time for their bytes and operations over the time they took. Weights and the cache are
// read from where a working set of `model_bytes` lies, activations from where they themselves fit.
// Time between two ops that a worker spent at a barrier is a span "wait" (gaps under a microsecond
// are the trace's own). Writes through a temporary file.
Result<void> write_trace(const std::string& path, const Trace& trace, const Ceilings& ceilings,
                         int64_t model_bytes);

}  // namespace quench
