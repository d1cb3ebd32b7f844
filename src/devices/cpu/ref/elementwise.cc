// Norm, SiLU, residual add, row gather.
#include <algorithm>
#include <cmath>

#include "devices/cpu/ref/ref.h"

namespace quench::ref {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

// Root mean square normalisation (Zhang and Sennrich 2019). The sum is kept in double: the judge
// should not be the noise.
void rms_norm(const OpContext& context, const RmsNormArgs& a) {
  const Range range = worker_range(context.worker, a.rows);
  for (int64_t r = range.begin; r < range.end; ++r) {
    const float* x = a.x + r * a.cols;
    float* y = a.y + r * a.cols;
    double sum = 0.0;
    for (int64_t i = 0; i < a.cols; ++i) sum += static_cast<double>(x[i]) * x[i];
    const auto scale =
        static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(a.cols) + a.eps));
    for (int64_t i = 0; i < a.cols; ++i) y[i] = x[i] * scale * a.weight[i];
  }
}

void silu_mul(const OpContext& context, const SiluMulArgs& a) {
  const Range range = worker_range(context.worker, a.count, 16);
  for (int64_t i = range.begin; i < range.end; ++i)
    a.y[i] = a.gate[i] * sigmoid(a.gate[i]) * a.up[i];
}

void add(const OpContext& context, const AddArgs& a) {
  const Range range = worker_range(context.worker, a.rows * a.cols, 16);
  for (int64_t i = range.begin; i < range.end; ++i) {
    a.x[i] += a.gate == nullptr ? a.y[i] : sigmoid(a.gate[i / a.cols]) * a.y[i];
  }
}

void gather_rows(const OpContext& context, const GatherRowsArgs& a) {
  const Range range = worker_range(context.worker, a.num_rows);
  for (int64_t r = range.begin; r < range.end; ++r) {
    const float* x = a.x + a.rows[r] * a.cols;
    std::copy(x, x + a.cols, a.y + r * a.cols);
  }
}

}  // namespace quench::ref
