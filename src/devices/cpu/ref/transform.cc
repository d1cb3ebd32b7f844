// Rotation and permutation of a matmul's input, by the functions that define them.
#include <algorithm>

#include "devices/cpu/ref/ref.h"
#include "formats/hadamard.h"

namespace quench::ref {

void transform(const OpContext& context, const TransformArgs& a) {
  const Range range = worker_range(context.worker, a.rows);
  const auto cols = static_cast<size_t>(a.cols);
  for (int64_t r = range.begin; r < range.end; ++r) {
    const float* x = a.x + r * a.cols;
    float* y = a.y + r * a.cols;
    if (a.permutation != nullptr) {
      for (size_t i = 0; i < cols; ++i) {
        const auto from = static_cast<size_t>(a.permutation[i]);
        (a.inverse ? y[from] : y[i]) = a.inverse ? x[i] : x[from];
      }
      continue;
    }
    for (size_t i = 0; i < cols; ++i) y[i] = a.inverse ? x[i] : a.signs[i] * x[i];
    rotate({y, cols}, {a.hartley, static_cast<size_t>(a.odd * a.odd)});
    if (!a.inverse) continue;
    for (size_t i = 0; i < cols; ++i) y[i] *= a.signs[i];
  }
}

}  // namespace quench::ref
