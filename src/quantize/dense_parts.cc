#include "quantize/dense_parts.h"

#include <algorithm>
#include <cmath>

#include "base/bytes.h"
#include "formats/quantized_tensor.h"

namespace quench {
namespace {

// Columns that are factored before those left of them in the panel are updated, and columns of a
// panel, before all others are: the first is what plain loops pay for, the second how often the
// whole matrix passes through memory.
constexpr int64_t kNarrow = 64;
constexpr int64_t kPanel = 512;
// A task of an update: what of the matrix stays in the second-level cache beside its factors.
constexpr int64_t kUpdateRows = 128;
constexpr int64_t kUpdateCols = SymmetricMatrix::kBand;

// From the last column to the first, a panel at a time: with A = U D U^T, the last columns of U and
// D come from the last columns of A, and what they explain of the rest is subtracted from it. It is
// the Cholesky factorization (Golub and Van Loan, 4.2) of the matrix read backwards.
class UduFactors {
 public:
  UduFactors(Device& device, SymmetricMatrix& matrix, std::span<float> d)
      : device_(device), matrix_(matrix), n_(matrix.n()), d_(d.data()) {}

  bool run() {
    for (int64_t end = n_; end > 0;) {
      const int64_t begin = (end - 1) / kPanel * kPanel;
      for (int64_t last = end; last > begin;) {
        const int64_t first = (last - 1) / kNarrow * kNarrow;
        if (!factor_columns(first, last)) return false;
        subtract(first, last, begin, first);
        last = first;
      }
      subtract(begin, end, 0, begin);
      end = begin;
    }
    return true;
  }

 private:
  float& at(int64_t i, int64_t j) { return matrix_.row(i)[j]; }

  // Columns [begin, end), at most kNarrow, from which all on their right is subtracted already.
  bool factor_columns(int64_t begin, int64_t end) {
    for (int64_t j = end - 1; j >= begin; --j) {
      double pivot = at(j, j);
      for (int64_t p = j + 1; p < end; ++p)
        pivot -= static_cast<double>(at(j, p)) * at(j, p) * d_[p];
      if (!(pivot > 0.0) || !std::isfinite(pivot)) return false;
      d_[j] = static_cast<float>(pivot);
      for (int64_t i = begin; i < j; ++i) {
        float sum = 0.0f;
        for (int64_t p = j + 1; p < end; ++p) sum += at(i, p) * d_[p] * at(j, p);
        at(i, j) = (at(i, j) - sum) / d_[j];
      }
      at(j, j) = 1.0f;
    }
    // The rows above, each for itself: x_j = a_j - sum over p > j of x_p U_jp gives U_ij D_j.
    float columns[kNarrow * kNarrow] = {};  // column p of U, zero where it is not above j
    for (int64_t p = begin; p < end; ++p)
      for (int64_t j = begin; j < p; ++j) columns[(p - begin) * kNarrow + j - begin] = at(j, p);
    float inverse[kNarrow] = {};
    for (int64_t j = begin; j < end; ++j) inverse[j - begin] = 1.0f / d_[j];
    const int64_t width = end - begin;
    device_.run([&](const OpContext& context) {
      const Range range = worker_range(context.worker, begin, 16);
      for (int64_t i = range.begin; i < range.end; ++i) {
        float x[kNarrow] = {};
        std::copy_n(&at(i, begin), width, x);
        for (int64_t p = width - 1; p > 0; --p) {
          const float xp = x[p];
          const float* column = columns + p * kNarrow;
          for (int64_t j = 0; j < kNarrow; ++j) x[j] -= xp * column[j];
        }
        for (int64_t j = 0; j < width; ++j) at(i, begin + j) = x[j] * inverse[j];
      }
    });
    return true;
  }

  // Takes what columns [begin, end) explain from columns [col_begin, col_end), which are left of
  // them, down to the diagonal.
  void subtract(int64_t begin, int64_t end, int64_t col_begin, int64_t col_end) {
    if (col_begin >= col_end) return;
    const int64_t width = end - begin;
    const int64_t depth = round_up(width, kNarrow);  // kernels want an even number
    std::vector<float> ud(static_cast<size_t>(col_end * depth));
    const int64_t num_blocks = ceil_div(col_end - col_begin, kUpdateCols);
    std::vector<std::unique_ptr<PackedMatrix>> blocks(static_cast<size_t>(num_blocks));
    device_.run([&](const OpContext& context) {
      const Range rows = worker_range(context.worker, col_end, 16);
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        for (int64_t p = 0; p < width; ++p)
          ud[static_cast<size_t>(i * depth + p)] = at(i, begin + p) * d_[begin + p];
      }
      std::vector<float> u(static_cast<size_t>(kUpdateCols * depth));
      const Range own = worker_range(context.worker, num_blocks);
      for (int64_t b = own.begin; b < own.end; ++b) {
        const int64_t first = col_begin + b * kUpdateCols;
        const int64_t count = std::min(kUpdateCols, col_end - first);
        for (int64_t r = 0; r < count; ++r)
          std::copy_n(&at(first + r, begin), width, u.data() + r * depth);
        blocks[static_cast<size_t>(b)] =
            std::make_unique<PackedMatrix>(device_, "f32", u.data(), count, depth, depth);
      }
    });
    struct Task {
      int64_t row;
      int64_t block;
    };
    std::vector<Task> tasks;
    for (int64_t b = 0; b < num_blocks; ++b) {
      const int64_t bottom = std::min(col_end, col_begin + (b + 1) * kUpdateCols);
      for (int64_t row = 0; row < bottom; row += kUpdateRows) tasks.push_back({row, b});
    }
    run_tasks(device_, static_cast<int64_t>(tasks.size()), [&] {
      std::vector<float> product(static_cast<size_t>(kUpdateRows * kUpdateCols));
      return [&, product](int64_t t) mutable {
        const auto [row, b] = tasks[static_cast<size_t>(t)];
        const PackedMatrix& block = *blocks[static_cast<size_t>(b)];
        const int64_t count = std::min(kUpdateRows, col_end - row);
        block.multiply(OpContext{}, ud.data() + row * depth, count, product.data());
        for (int64_t r = 0; r < count; ++r) {
          const float* explained = product.data() + r * block.n();
          float* to = &at(row + r, col_begin + b * kUpdateCols);
          for (int64_t c = 0; c < block.n(); ++c) to[c] -= explained[c];
        }
      };
    });
  }

  Device& device_;
  SymmetricMatrix& matrix_;
  int64_t n_;
  float* d_;  // [n]
};

}  // namespace

LineBuffer::LineBuffer(int64_t size_bytes)
    : storage_(std::make_unique<std::byte[]>(static_cast<size_t>(size_bytes) + 64)) {
  const auto address = reinterpret_cast<uintptr_t>(storage_.get());
  data_ = storage_.get() + (64 - address % 64) % 64;
}

PackedMatrix::PackedMatrix(const Device& device, const char* format, const float* b, int64_t n,
                           int64_t k, int64_t stride) {
  pack(device, format, n, k, [&](int64_t row, float* to) { std::copy_n(b + row * stride, k, to); });
}

PackedMatrix::PackedMatrix(const Device& device, const char* format,
                           const SymmetricMatrix& symmetric) {
  const int64_t n = symmetric.n();
  pack(device, format, n, n, [&](int64_t row, float* to) {
    for (int64_t c = 0; c < n; ++c) to[c] = symmetric.at(row, c);
  });
}

void PackedMatrix::pack(const Device& device, const char* format_name, int64_t n, int64_t k,
                        const std::function<void(int64_t row, float* to)>& read) {
  const Format& format = *find_format(format_name);
  weight_.kernel = &choose_kernel(device, format, n, k);
  weight_.format = &format;
  weight_.n = n;
  weight_.k = k;
  weight_.packed_bytes = weight_.kernel->packed_bytes(format, n, k);
  storage_ = LineBuffer(weight_.packed_bytes);
  weight_.packed = storage_.data();
  std::vector<float> rows(static_cast<size_t>(kPackRows * k));
  for (int64_t row = 0; row < n; row += kPackRows) {
    const int64_t count = std::min(kPackRows, n - row);
    for (int64_t r = 0; r < count; ++r) read(row + r, rows.data() + r * k);
    QuantizedTensor stored(format, count, k);
    format.encode_rows(rows.data(), count, k, stored.planes());
    weight_.kernel->pack({&format, count, k, std::as_const(stored).planes()}, n, row,
                         storage_.data());
  }
}

void PackedMatrix::multiply(const OpContext& context, const float* x, int64_t m, float* y) const {
  const Weight* weights[] = {&weight_};
  weight_.kernel->run(context, {x, weights, &y, 1, m, m, nullptr, nullptr});
}

bool factor_udu(Device& device, SymmetricMatrix& matrix, std::span<float> d) {
  return UduFactors(device, matrix, d).run();
}

}  // namespace quench
