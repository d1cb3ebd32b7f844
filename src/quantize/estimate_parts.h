// What a quantization will take, before it is done: what `--dry-run` says beside the bytes.
#pragma once

#include "quantize/quantize.h"

namespace quench {

struct QuantizeEstimate {
  int64_t calibration_tokens = 0;
  int64_t peak_bytes = 0;  // of memory that is the program's own; files' pages can be taken back
  // Rounding as a sample of the job itself took here; calibration by its operations at the speed
  // that a product of matrices has here and the share of it that the parts reach.
  double seconds = 0.0;
};

// Takes a second or so. The job's device is used.
Result<QuantizeEstimate> estimate_quantize(const QuantizeOptions& options, const QuantizeJob& job);

}  // namespace quench
