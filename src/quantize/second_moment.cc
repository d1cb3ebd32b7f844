#include "quantize/second_moment.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/bytes.h"
#include "base/float16.h"
#include "quantize/dense_parts.h"

namespace quench {
namespace {

// Integers with a scale per kGroup tokens, in a type with the range of f32.
constexpr const char* kFormat = "int8_g128_bf16";
constexpr int64_t kGroup = 128;
constexpr int kZero = 128;           // code = level + kZero
constexpr float kSmallest = 1e-25f;  // of a group's largest magnitude, above what kernels call zero

// A block of columns is packed as a matrix. A task multiplies rows of X^T, whose codes (0.5 MB for
// 4096 tokens) stay in the second-level cache, with the blocks of some columns, which are in the
// third-level cache while all tasks of those columns use them.
constexpr int64_t kBlockCols = SymmetricMatrix::kBand;
constexpr int64_t kTaskBlocks = 8;
constexpr int64_t kTaskRows = 128;

// X^T, rounded: as packed blocks and as the values they stand for.
class RoundedColumns {
 public:
  RoundedColumns(Device& device, const float* x, int64_t rows, int64_t cols)
      : format_(*find_format(kFormat)), rows_(rows), cols_(cols), depth_(round_up(rows, kGroup)) {
    values_.reset(new float[static_cast<size_t>(cols * depth_)]);
    const int64_t num_blocks = ceil_div(cols, kBlockCols);
    blocks_.resize(static_cast<size_t>(num_blocks));
    storage_.resize(blocks_.size());
    for (int64_t b = 0; b < num_blocks; ++b) {
      Weight& block = blocks_[static_cast<size_t>(b)];
      block.format = &format_;
      block.n = std::min(kBlockCols, cols - b * kBlockCols);
      block.k = depth_;
      block.kernel = &choose_kernel(device, format_, block.n, block.k);
      block.packed_bytes = block.kernel->packed_bytes(format_, block.n, block.k);
      storage_[static_cast<size_t>(b)] = LineBuffer(block.packed_bytes);
      block.packed = storage_[static_cast<size_t>(b)].data();
    }
    run_tasks(device, ceil_div(cols, kPackRows), [&] {
      std::vector<uint8_t> codes(static_cast<size_t>(kPackRows * depth_));
      std::vector<uint16_t> scales(static_cast<size_t>(kPackRows * depth_ / kGroup));
      return [this, x, codes, scales](int64_t task) mutable {
        const int64_t first = task * kPackRows;
        const int64_t count = std::min(kPackRows, cols_ - first);
        for (int64_t token = 0; token < depth_; token += kGroup)
          round_tokens(x, token, first, count, codes, scales);
        const Weight& block = blocks_[static_cast<size_t>(first / kBlockCols)];
        block.kernel->pack({&format_,
                            count,
                            depth_,
                            {reinterpret_cast<const std::byte*>(codes.data()),
                             reinterpret_cast<const std::byte*>(scales.data())}},
                           block.n, first % kBlockCols,
                           storage_[static_cast<size_t>(first / kBlockCols)].data());
      };
    });
  }

  int64_t depth() const { return depth_; }
  // Of column `column` on: [columns, depth].
  const float* values(int64_t column) const { return values_.get() + column * depth_; }
  const std::vector<Weight>& blocks() const { return blocks_; }

 private:
  // One group of tokens of columns [first, first + count).
  void round_tokens(const float* x, int64_t token, int64_t first, int64_t count,
                    std::vector<uint8_t>& codes, std::vector<uint16_t>& scales) {
    constexpr int64_t kLineCols = 16;  // columns: a cache line of every token
    const int64_t num_tokens = std::min(kGroup, rows_ - token);
    for (int64_t c = 0; c < count; c += kLineCols) {
      const int64_t width = std::min(kLineCols, count - c);
      float group[kLineCols][kGroup] = {};
      for (int64_t t = 0; t < num_tokens; ++t) {
        const float* from = x + (token + t) * cols_ + first + c;
        for (int64_t i = 0; i < width; ++i) group[i][t] = from[i];
      }
      for (int64_t i = 0; i < width; ++i) {
        float largest = 0.0f;
        float poison = 0.0f;  // not 0 when a value is not finite
        for (const float value : group[i]) {
          largest = std::max(largest, std::fabs(value));
          poison += value * 0.0f;
        }
        if (poison != 0.0f) {
          largest = std::numeric_limits<float>::quiet_NaN();  // and so becomes the moment
          std::fill_n(group[i], kGroup, 0.0f);
        }
        const uint16_t stored = largest <= kSmallest ? 0 : f32_to_bf16(largest / 127.0f);
        const float scale = bf16_to_f32(stored);
        const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
        scales[static_cast<size_t>(((c + i) * depth_ + token) / kGroup)] = stored;
        uint8_t* code = codes.data() + (c + i) * depth_ + token;
        float* value = values_.get() + (first + c + i) * depth_ + token;
        for (int64_t t = 0; t < kGroup; ++t) {
          // The largest may be cut by less than a rounding, so that its level is 127 and a kernel
          // that looks for the scale of `value` finds this one.
          const float level =
              std::min(std::max(group[i][t] * inverse, -127.0f), 127.0f) + 12582912.0f;
          const float rounded = level - 12582912.0f;  // half to even
          code[t] = static_cast<uint8_t>(static_cast<int>(rounded) + kZero);
          value[t] = rounded != 0.0f ? scale * rounded : 0.0f;
        }
      }
    }
  }

  const Format& format_;
  int64_t rows_;
  int64_t cols_;
  int64_t depth_;  // tokens with zeros up to whole groups
  std::unique_ptr<float[]> values_;
  std::vector<Weight> blocks_;
  std::vector<LineBuffer> storage_;
};

}  // namespace

void add_second_moment(Device& device, const float* x, int64_t rows, SymmetricMatrix& moment) {
  const int64_t cols = moment.n();
  const RoundedColumns columns(device, x, rows, cols);
  const auto num_blocks = static_cast<int64_t>(columns.blocks().size());
  struct Task {
    int64_t row;
    int64_t block;  // the first of kTaskBlocks
  };
  std::vector<Task> tasks;
  for (int64_t block = 0; block < num_blocks; block += kTaskBlocks) {
    const int64_t bottom = std::min(cols, (block + kTaskBlocks) * kBlockCols);
    for (int64_t row = 0; row < bottom; row += kTaskRows) tasks.push_back({row, block});
  }
  const int64_t scratch_bytes =
      columns.blocks().front().kernel->scratch_bytes(kTaskRows, columns.depth());
  run_tasks(device, static_cast<int64_t>(tasks.size()), [&] {
    constexpr int64_t kProduct = kTaskRows * kBlockCols;
    return [&, scratch = LineBuffer(scratch_bytes),
            product = std::vector<float>(kTaskBlocks * kProduct)](int64_t t) mutable {
      const auto [row, first_block] = tasks[static_cast<size_t>(t)];
      const int64_t count = std::min(kTaskRows, cols - row);
      const Weight* weights[kTaskBlocks];
      float* y[kTaskBlocks];
      int64_t column[kTaskBlocks];
      int64_t num_weights = 0;
      const int64_t end_block = std::min(first_block + kTaskBlocks, num_blocks);
      for (int64_t b = first_block; b < end_block; ++b) {
        if ((b + 1) * kBlockCols <= row) continue;  // below the diagonal
        weights[num_weights] = &columns.blocks()[static_cast<size_t>(b)];
        y[num_weights] = product.data() + num_weights * kProduct;
        column[num_weights++] = b * kBlockCols;
      }
      OpContext context;
      context.scratch = scratch.data();
      weights[0]->kernel->run(
          context, {columns.values(row), weights, y, num_weights, count, count, nullptr, nullptr});
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t w = 0; w < num_weights; ++w) {
          const int64_t n = weights[w]->n;
          const float* from = y[w] + r * n;
          float* to = moment.row(row + r) + column[w];
          for (int64_t i = 0; i < n; ++i) to[i] += from[i];
        }
      }
    };
  });
}

void scale_second_moment(Device& device, float factor, SymmetricMatrix& moment) {
  run_tasks(device, moment.n(), [&] {
    return [&](int64_t i) {
      float* const row = moment.row(i);
      for (int64_t j = i; j < moment.n(); ++j) row[j] *= factor;
    };
  });
}

}  // namespace quench
