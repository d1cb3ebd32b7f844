// Tensor: a view of a [rows, cols] matrix in some Format on some device. Owns nothing, copied
// freely.
#pragma once

#include "formats/format.h"

namespace quench {

struct Tensor {
  const Format* format = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  ConstPlanes planes{};
};

}  // namespace quench
