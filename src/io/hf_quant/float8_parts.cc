#include "io/hf_quant/float8_parts.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "formats/fp8.h"
#include "io/message.h"

namespace quench {
namespace {

class Float8Reader {
 public:
  Float8Reader(const Float8Parts& parts, const Format* format, std::string where)
      : parts_(parts), format_(format), where_(std::move(where)) {}

  Result<void> read(int64_t row, int64_t num_rows, const Planes& out) const {
    const std::byte* codes = parts_.weight->data.data() + row * parts_.cols;
    const auto is_nan = [](std::byte code) { return (code & std::byte{0x7f}) == std::byte{0x7f}; };
    if (std::any_of(codes, codes + num_rows * parts_.cols, is_nan)) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: there is a code for NaN in rows {} to {}; the file is damaged.", where_, row,
                  row + num_rows - 1);
    }
    const int64_t blocks = ceil_div(parts_.cols, parts_.block.cols);
    std::vector<float> scales(static_cast<size_t>(blocks));
    for (int64_t r = 0; r < num_rows; r += format_->tile_rows) {
      const int64_t block_row = (row + r) / parts_.block.rows;
      (void)decode_to_f32(parts_.scales->dtype, parts_.scales->data, block_row * blocks, scales);
      if (!std::all_of(scales.begin(), scales.end(), [](float s) { return std::isfinite(s); })) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: a scale of row {} is not finite; the file is damaged.", where_, row + r);
      }
      put_tiles(codes + r * parts_.cols, scales, format_->row_planes(out, r, parts_.cols));
    }
    return {};
  }

 private:
  // The tiles of one tile row.
  void put_tiles(const std::byte* codes, const std::vector<float>& scales,
                 const Planes& out) const {
    const int64_t cols = parts_.cols;
    if (format_->name == "f32") {
      for (int64_t i = 0; i < cols; ++i) {
        const float value = fp8_format::kValues[static_cast<uint8_t>(codes[i])];
        store<float>(out[0] + 4 * i, value * scales[static_cast<size_t>(i / parts_.block.cols)]);
      }
      return;
    }
    const int64_t width = format_->tile_width(cols);
    std::byte* to = out[0];
    for (int64_t column = 0; column < cols; column += width) {
      for (int64_t r = 0; r < format_->tile_rows; ++r, to += width)
        std::memcpy(to, codes + r * cols + column, static_cast<size_t>(width));
      store<float>(out[1] + 4 * (column / width), scales[static_cast<size_t>(column / width)]);
    }
  }

  Float8Parts parts_;
  const Format* format_;
  std::string where_;
};

}  // namespace

std::optional<BlockSize> block_size(const Json& value) {
  const auto sensible = [](const Json& side) {
    return side.is_number_unsigned() && side > 0 && side < int64_t{1} << 40;
  };
  if (!value.is_array() || value.size() != 2 || !sensible(value[0]) || !sensible(value[1]))
    return std::nullopt;
  return BlockSize{value[0].get<int64_t>(), value[1].get<int64_t>()};
}

Result<const TensorEntry*> find_float8_scales(PartFinder& finder, const std::string& part,
                                              const Float8Parts& parts) {
  const std::initializer_list<Dtype> dtypes = {Dtype::kF32, Dtype::kBF16, Dtype::kF16,
                                               Dtype::kF8E8M0};
  const int64_t row_blocks = ceil_div(parts.rows, parts.block.rows);
  const int64_t col_blocks = ceil_div(parts.cols, parts.block.cols);
  const TensorEntry* entry = finder.peek(part);
  if (row_blocks * col_blocks == 1 && entry != nullptr && entry->shape.size() < 2) {
    if (entry->shape.empty()) return finder.require(part, dtypes, {});
    return finder.require(part, dtypes, {1});
  }
  return finder.require(part, dtypes, {row_blocks, col_blocks});
}

StoredMatrix float8_matrix(const Float8Parts& parts, std::vector<const TensorEntry*> entries,
                           std::string where) {
  StoredMatrix matrix;
  matrix.format = find_format("f32");
  const Format* blocks = find_format("fp8_b128");
  if (parts.block.rows == blocks->tile_rows && parts.block.cols == blocks->tile_cols &&
      blocks->fits(parts.rows, parts.cols)) {
    matrix.format = blocks;
  } else if (parts.block.cols >= parts.cols) {
    matrix.format = find_format("fp8");
  }
  matrix.rows = parts.rows;
  matrix.cols = parts.cols;
  matrix.entries = std::move(entries);
  matrix.read = [reader = Float8Reader(parts, matrix.format, std::move(where))](
                    int64_t row, int64_t num_rows, const Planes& out) {
    return reader.read(row, num_rows, out);
  };
  return matrix;
}

std::vector<EncodedTensor> write_float8(const std::string& stem, const std::string& scale_part,
                                        const QuantizedTensor& matrix) {
  const Format& format = matrix.format();
  const int64_t rows = matrix.rows();
  const int64_t cols = matrix.cols();
  const int64_t width = format.tile_width(cols);
  const ConstPlanes planes = matrix.planes();
  std::vector<std::byte> codes(static_cast<size_t>(rows * cols));
  for (int64_t row = 0; row < rows; ++row) {
    const std::byte* tile_row = planes[0] + row / format.tile_rows * format.tile_rows * cols;
    for (int64_t column = 0; column < cols; column += width) {
      std::memcpy(codes.data() + row * cols + column,
                  tile_row + column * format.tile_rows + row % format.tile_rows * width,
                  static_cast<size_t>(width));
    }
  }
  std::vector<EncodedTensor> tensors;
  tensors.push_back(
      EncodedTensor::own({stem + ".weight", Dtype::kF8E4M3, {rows, cols}}, std::move(codes)));
  tensors.push_back(EncodedTensor::view(
      {stem + "." + scale_part, Dtype::kF32, {rows / format.tile_rows, cols / width}},
      {planes[1], static_cast<size_t>(format.plane_bytes(1, rows, cols))}));
  return tensors;
}

}  // namespace quench
