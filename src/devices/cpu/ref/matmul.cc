// The generic matmul: works for every format through its decode(), and defines what all others are
// compared with. Limit: it decodes each weight once per call and does one multiply-add per weight
// and token with SSE2.
#include <algorithm>
#include <cstring>
#include <vector>

#include "devices/cpu/ref/ref.h"

namespace quench::ref {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kRowBlock =
    8;  // rows decoded at once; every format's tile height divides or is a multiple of it

// Sixteen partial sums, lane l takes the products k = l mod 16 in ascending order, then a fixed
// tree: the same order for every m, every thread count and every format.
float dot(const float* x, const float* w, int64_t k) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += x[i + l] * w[i + l];
  }
  for (int64_t l = 0; i + l < k; ++l) lanes[l] += x[i + l] * w[i + l];
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
    for (int64_t l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}

ConstPlanes packed_planes(const Weight& weight, int64_t expert) {
  ConstPlanes planes{};
  const std::byte* next = weight.packed + expert * weight.packed_bytes;
  for (size_t p = 0; p < weight.format->planes.size(); ++p) {
    planes[p] = next;
    next += weight.format->plane_bytes(static_cast<int>(p), weight.n, weight.k);
  }
  return planes;
}

bool accepts(const Format& format, int64_t n, int64_t k) { return format.fits(n, k); }
int64_t packed_bytes(const Format& format, int64_t n, int64_t k) {
  return format.matrix_bytes(n, k);
}

void pack(const Tensor& source, int64_t n, int64_t row_begin, std::byte* packed) {
  const Format& format = *source.format;
  for (int p = 0; p < static_cast<int>(format.planes.size()); ++p) {
    std::memcpy(packed + format.plane_bytes(p, row_begin, source.cols),
                source.planes[static_cast<size_t>(p)],
                static_cast<size_t>(format.plane_bytes(p, source.rows, source.cols)));
    packed += format.plane_bytes(p, n, source.cols);
  }
}

void gather(const OpContext& context, const Weight& weight, const int32_t* ids, int64_t num_ids,
            float* y) {
  const Format& format = *weight.format;
  const ConstPlanes planes = packed_planes(weight, 0);
  std::vector<float> rows(static_cast<size_t>(format.tile_rows * weight.k));
  const Range range = worker_range(context.worker, num_ids);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const int64_t tile_row = ids[i] / format.tile_rows * format.tile_rows;
    format.decode_rows(format.row_planes(planes, tile_row, weight.k), format.tile_rows, weight.k,
                       rows.data());
    std::copy_n(rows.data() + (ids[i] - tile_row) * weight.k, weight.k, y + i * weight.k);
  }
}

// Rows [begin, end) of the output features for the tokens of one expert (or all).
void run_rows(const Weight& weight, int64_t expert, Range features, Range tokens,
              const MatmulArgs& a, float* y) {
  if (tokens.begin == tokens.end) return;
  thread_local std::vector<float> decoded;
  const int64_t step = std::max(kRowBlock, weight.format->tile_rows);
  decoded.resize(static_cast<size_t>(step * weight.k));
  const ConstPlanes planes = packed_planes(weight, expert);
  for (int64_t row = features.begin; row < features.end; row += step) {
    const int64_t rows = std::min(step, features.end - row);
    weight.format->decode_rows(weight.format->row_planes(planes, row, weight.k), rows, weight.k,
                               decoded.data());
    for (int64_t token = tokens.begin; token < tokens.end; ++token) {
      const float* x = a.x + (a.rows != nullptr ? a.rows[token] : token) * weight.k;
      for (int64_t r = 0; r < rows; ++r) {
        const float bias = weight.bias != nullptr ? weight.bias[row + r] : 0.0f;
        y[token * weight.n + row + r] = dot(x, decoded.data() + r * weight.k, weight.k) + bias;
      }
    }
  }
}

void run(const OpContext& context, const MatmulArgs& a) {
  for (int64_t w = 0; w < a.num_weights; ++w) {
    const Weight& weight = *a.weights[w];
    const int64_t grain = std::max(kRowBlock, weight.format->tile_rows);
    const Range features = worker_range(context.worker, weight.n, grain);
    if (a.expert_begin == nullptr) {
      run_rows(weight, 0, features, {0, a.m}, a, a.y[w]);
      continue;
    }
    for (int64_t e = 0; e < weight.num_experts; ++e) {
      run_rows(weight, e, features, {a.expert_begin[e], a.expert_begin[e + 1]}, a, a.y[w]);
    }
  }
}

int64_t scratch_bytes(int64_t, int64_t) { return 0; }

}  // namespace

const MatmulKernel matmul = {"ref_generic", accepts, packed_bytes, pack,
                             gather,        run,     scratch_bytes};

}  // namespace quench::ref
