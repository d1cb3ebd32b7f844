#include "quantize/dense_parts.h"

#include <algorithm>
#include <cmath>

#include "base/bytes.h"

namespace quench {
namespace {

constexpr int64_t kSlabRows = 256;  // rows of a product that are made at a time
constexpr int64_t kDepth = 64;      // kernels want k in multiples of it
constexpr int64_t kPanel = 128;     // columns that are factored before the rest is updated

// The transpose of x [rows, cols] with rows padded by zeros to `depth`: [cols, depth].
std::vector<float> transposed(Device& device, const float* x, int64_t rows, int64_t cols,
                              int64_t depth) {
  std::vector<float> result(static_cast<size_t>(cols * depth));
  constexpr int64_t kTile = 16;
  device.run([&](const OpContext& context) {
    const Range range = worker_range(context.worker, cols, kTile);
    for (int64_t i = range.begin; i < range.end; i += kTile) {
      const int64_t end = std::min(i + kTile, range.end);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = i; c < end; ++c)
          result[static_cast<size_t>(c * depth + r)] = x[r * cols + c];
      }
    }
  });
  return result;
}

}  // namespace

PackedMatrix::PackedMatrix(Device& device, const float* b, int64_t n, int64_t k, int64_t stride) {
  const Format& format = *find_format("f32");
  weight_.kernel = &choose_kernel(device, format, n, k);
  weight_.format = &format;
  weight_.n = n;
  weight_.k = k;
  weight_.packed_bytes = weight_.kernel->packed_bytes(format, n, k);
  storage_.resize(static_cast<size_t>(weight_.packed_bytes) + 64);
  const auto address = reinterpret_cast<uintptr_t>(storage_.data());
  weight_.packed = storage_.data() +
                   (round_up(static_cast<int64_t>(address), 64) - static_cast<int64_t>(address));
  std::vector<float> rows(static_cast<size_t>(kPackRows * k));
  for (int64_t row = 0; row < n; row += kPackRows) {
    const int64_t count = std::min(kPackRows, n - row);
    for (int64_t r = 0; r < count; ++r) std::copy_n(b + (row + r) * stride, k, rows.data() + r * k);
    const Tensor source = {&format, count, k, {reinterpret_cast<const std::byte*>(rows.data())}};
    weight_.kernel->pack(source, n, row, weight_.packed);
  }
}

void PackedMatrix::multiply(const OpContext& context, const float* x, int64_t m, float* y) const {
  const Weight* weights[] = {&weight_};
  weight_.kernel->run(context, {x, weights, &y, 1, m, m, nullptr, nullptr});
}

void add_second_moment(Device& device, const float* x, int64_t rows, int64_t cols,
                       std::span<float> moment) {
  const int64_t depth = round_up(rows, kDepth);
  const std::vector<float> xt = transposed(device, x, rows, cols, depth);
  const PackedMatrix packed(device, xt.data(), cols, depth, depth);
  std::vector<float> product(static_cast<size_t>(std::min(kSlabRows, cols) * cols));
  for (int64_t row = 0; row < cols; row += kSlabRows) {
    const int64_t count = std::min(kSlabRows, cols - row);
    device.run([&](const OpContext& context) {
      packed.multiply(context, xt.data() + row * depth, count, product.data());
      context.worker.wait();
      const Range range = worker_range(context.worker, count * cols, 64);
      float* sums = moment.data() + row * cols;
      for (int64_t i = range.begin; i < range.end; ++i) sums[i] += product[static_cast<size_t>(i)];
    });
  }
}

// From the last column to the first, a panel at a time: with A = U D U^T, the last columns of U and
// D come from the last columns of A, and what they explain of the rest is subtracted from it. It is
// the Cholesky factorization (Golub and Van Loan, 4.2) of the matrix read backwards.
bool factor_udu(Device& device, std::span<float> matrix, int64_t n, std::span<float> d) {
  auto at = [&](int64_t i, int64_t j) -> float& { return matrix[static_cast<size_t>(i * n + j)]; };
  for (int64_t end = n; end > 0;) {
    const int64_t begin = std::max<int64_t>(0, (end - 1) / kPanel * kPanel);
    const int64_t width = end - begin;
    // The panel's own columns, rows [0, end).
    for (int64_t j = end - 1; j >= begin; --j) {
      double pivot = at(j, j);
      for (int64_t p = j + 1; p < end; ++p)
        pivot -= static_cast<double>(at(j, p)) * at(j, p) * d[static_cast<size_t>(p)];
      if (!(pivot > 0.0) || !std::isfinite(pivot)) return false;
      d[static_cast<size_t>(j)] = static_cast<float>(pivot);
      const auto inverse = static_cast<float>(1.0 / pivot);
      // Scaled rows of the panel right of j, so that the inner loop is a plain dot product.
      std::vector<float> scaled(static_cast<size_t>(end - j - 1));
      for (int64_t p = j + 1; p < end; ++p)
        scaled[static_cast<size_t>(p - j - 1)] = at(j, p) * d[static_cast<size_t>(p)];
      device.run([&](const OpContext& context) {
        const Range range = worker_range(context.worker, j, 16);
        for (int64_t i = range.begin; i < range.end; ++i) {
          const float* row = &at(i, j + 1);
          float sum = 0.0f;
          for (size_t p = 0; p < scaled.size(); ++p) sum += row[p] * scaled[p];
          at(i, j) = (at(i, j) - sum) * inverse;
        }
      });
      at(j, j) = 1.0f;
    }
    if (begin == 0) break;
    // What the panel explains of the columns left of it.
    const int64_t depth = round_up(width, kDepth);
    std::vector<float> u(static_cast<size_t>(begin * depth));
    std::vector<float> ud(u.size());
    for (int64_t i = 0; i < begin; ++i) {
      for (int64_t p = 0; p < width; ++p) {
        const size_t to = static_cast<size_t>(i * depth + p);
        u[to] = at(i, begin + p);
        ud[to] = u[to] * d[static_cast<size_t>(begin + p)];
      }
    }
    const PackedMatrix packed(device, u.data(), begin, depth, depth);
    std::vector<float> product(static_cast<size_t>(std::min(kSlabRows, begin) * begin));
    for (int64_t row = 0; row < begin; row += kSlabRows) {
      const int64_t count = std::min(kSlabRows, begin - row);
      device.run([&](const OpContext& context) {
        packed.multiply(context, ud.data() + row * depth, count, product.data());
        context.worker.wait();
        const Range range = worker_range(context.worker, count);
        for (int64_t r = range.begin; r < range.end; ++r) {
          const float* explained = product.data() + r * begin;
          float* to = &at(row + r, 0);
          for (int64_t c = 0; c < begin; ++c) to[c] -= explained[c];
        }
      });
    }
    end = begin;
  }
  return true;
}

}  // namespace quench
