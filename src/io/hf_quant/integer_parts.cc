#include "io/hf_quant/integer_parts.h"

#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "formats/integer.h"
#include "io/message.h"

namespace quench {
namespace {

// The format that holds such integers, with the largest group of its own that divides the file's
// (scales are then repeated); null when there is none.
const Format* format_of(const IntegerParts& parts) {
  const int64_t group = parts.cols / parts.groups;
  if (parts.groups == 1 && parts.bits == 8 && !parts.zero_point) return find_format("int8");
  const char* scale = parts.scale_dtype == Dtype::kF16    ? ""
                      : parts.scale_dtype == Dtype::kBF16 ? "_bf16"
                                                          : nullptr;
  if (scale == nullptr) return nullptr;
  for (const int64_t own : {128, 64, 32}) {
    if (group % own != 0) continue;
    return find_format(
        fmt::format("int{}_g{}{}{}", parts.bits, own, parts.zero_point ? "_zp" : "", scale));
  }
  return nullptr;
}

class IntegerReader {
 public:
  IntegerReader(IntegerParts parts, const Format* format, std::string where)
      : parts_(std::move(parts)), format_(format), where_(std::move(where)) {}

  // format_ is null: f32.
  Result<void> read(int64_t row, int64_t num_rows, const Planes& out) const {
    const int64_t groups = parts_.groups;
    std::vector<float> scales(static_cast<size_t>(num_rows * groups));
    std::vector<uint8_t> zeros(scales.size());
    parts_.scales(row, num_rows, scales.data(), zeros.data());
    for (size_t i = 0; i < scales.size(); ++i) {
      if (std::isfinite(scales[i])) continue;
      return fail(ErrorCode::kInvalidFile, "{}: a scale of row {} is {}; the file is damaged.",
                  where_, row + static_cast<int64_t>(i) / groups, scales[i]);
    }
    const int64_t row_bytes = parts_.cols * parts_.bits / 8;
    if (format_ != nullptr) {
      parts_.codes(row, num_rows, out[0]);
      if (!parts_.permutation.empty()) {
        for (int64_t r = 0; r < num_rows; ++r) permute(out[0] + r * row_bytes);
      }
      put_scales(scales, zeros, out);
      return {};
    }
    std::vector<std::byte> stream(static_cast<size_t>(num_rows * row_bytes));
    parts_.codes(row, num_rows, stream.data());
    std::vector<uint8_t> codes(static_cast<size_t>(parts_.cols));
    for (int64_t r = 0; r < num_rows; ++r) {
      if (!parts_.permutation.empty()) permute(stream.data() + r * row_bytes);
      unpack_codes(stream.data() + r * row_bytes, parts_.cols, parts_.bits, codes.data());
      for (int64_t i = 0; i < parts_.cols; ++i) {
        const auto g = static_cast<size_t>(r * groups + i * groups / parts_.cols);
        const int zero = parts_.zero_point ? zeros[g] : 1 << (parts_.bits - 1);
        const auto level =
            static_cast<float>(static_cast<int>(codes[static_cast<size_t>(i)]) - zero);
        store<float>(out[0] + (r * parts_.cols + i) * 4, scales[g] * level);
      }
    }
    return {};
  }

 private:
  void permute(std::byte* stream) const {
    const auto cols = static_cast<size_t>(parts_.cols);
    std::vector<uint8_t> from(cols);
    std::vector<uint8_t> to(cols);
    unpack_codes(stream, parts_.cols, parts_.bits, from.data());
    for (size_t i = 0; i < cols; ++i) to[i] = from[static_cast<size_t>(parts_.permutation[i])];
    pack_codes(to.data(), parts_.cols, parts_.bits, stream);
  }

  void put_scales(const std::vector<float>& scales, const std::vector<uint8_t>& zeros,
                  const Planes& out) const {
    const ScaleType type = format_->grid.scale;
    const int64_t repeats = parts_.cols / parts_.groups / format_->tile_width(parts_.cols);
    std::byte* scale_at = out[1];
    std::byte* zero_at = out[2];
    for (size_t i = 0; i < scales.size(); ++i) {
      for (int64_t repeat = 0; repeat < repeats; ++repeat, scale_at += scale_bytes(type)) {
        put_scale(type, scales[i], scale_at);
        if (parts_.zero_point) *zero_at++ = static_cast<std::byte>(zeros[i]);
      }
    }
  }

  IntegerParts parts_;
  const Format* format_;
  std::string where_;
};

}  // namespace

PartFinder::PartFinder(const Checkpoint& checkpoint, const std::string& name)
    : checkpoint_(checkpoint),
      stem_(name.ends_with(".weight") ? name.substr(0, name.size() - 7) : name) {}

std::string PartFinder::where() const {
  return fmt::format("{}: {}", checkpoint_.dir(), in_quotes(stem_));
}

const TensorEntry* PartFinder::peek(const std::string& part) const {
  return checkpoint_.find(stem_ + "." + part);
}

const TensorEntry* PartFinder::find(const std::string& part) {
  const TensorEntry* entry = peek(part);
  if (entry != nullptr) entries_.push_back(entry);
  return entry;
}

Result<const TensorEntry*> PartFinder::require(const std::string& part,
                                               std::initializer_list<Dtype> dtypes,
                                               std::initializer_list<int64_t> shape) {
  QUENCH_TRY(const TensorEntry* entry, optional(part, dtypes, shape));
  if (entry != nullptr) return entry;
  return fail(ErrorCode::kInvalidFile,
              "{}: the quantized matrix has no tensor \"{}\"; the file is incomplete.", where(),
              part);
}

Result<const TensorEntry*> PartFinder::optional(const std::string& part,
                                                std::initializer_list<Dtype> dtypes,
                                                std::initializer_list<int64_t> shape) {
  const TensorEntry* entry = find(part);
  if (entry == nullptr) return entry;
  const bool type_fits = std::find(dtypes.begin(), dtypes.end(), entry->dtype) != dtypes.end();
  if (type_fits && std::equal(shape.begin(), shape.end(), entry->shape.begin(), entry->shape.end()))
    return entry;
  std::vector<const char*> names;
  for (const Dtype dtype : dtypes) names.push_back(dtype_name(dtype));
  return fail(ErrorCode::kInvalidFile, "{}: tensor \"{}\" is {} {}; expected {} {}.", where(), part,
              dtype_name(entry->dtype), shape_text(entry->shape), fmt::join(names, " or "),
              shape_text({shape.begin(), shape.size()}));
}

StoredMatrix integer_matrix(IntegerParts parts, std::vector<const TensorEntry*> entries,
                            std::string where) {
  QUENCH_CHECK(parts.cols % 32 == 0 && parts.groups > 0 && parts.cols % parts.groups == 0,
               "{} columns, {} groups", parts.cols, parts.groups);
  StoredMatrix matrix;
  const Format* format = format_of(parts);
  matrix.format = format != nullptr ? format : find_format("f32");
  matrix.rows = parts.rows;
  matrix.cols = parts.cols;
  matrix.entries = std::move(entries);
  if (!parts.permutation.empty()) matrix.transform = InputTransform::permute(parts.permutation);
  matrix.read = [reader = IntegerReader(std::move(parts), format, std::move(where))](
                    int64_t row, int64_t num_rows, const Planes& out) {
    return reader.read(row, num_rows, out);
  };
  return matrix;
}

namespace {

// Between two's complement and an offset of 128.
void turn_sign_bits(std::byte* codes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) codes[i] ^= std::byte{0x80};
}

}  // namespace

IntegerParts signed_byte_parts(const TensorEntry& codes, int64_t rows, int64_t cols) {
  IntegerParts parts;
  parts.bits = 8;
  parts.rows = rows;
  parts.cols = cols;
  parts.codes = [&codes, cols](int64_t row, int64_t num_rows, std::byte* out) {
    std::memcpy(out, codes.data.data() + row * cols, static_cast<size_t>(num_rows * cols));
    turn_sign_bits(out, num_rows * cols);
  };
  return parts;
}

EncodedTensor signed_bytes(std::string name, const QuantizedTensor& matrix) {
  const int64_t count = matrix.rows() * matrix.cols();
  std::vector<std::byte> codes(matrix.planes()[0], matrix.planes()[0] + count);
  turn_sign_bits(codes.data(), count);
  return EncodedTensor::own({std::move(name), Dtype::kI8, {matrix.rows(), matrix.cols()}},
                            std::move(codes));
}

Result<std::vector<int32_t>> sort_groups(std::span<const int32_t> group_of, int64_t groups,
                                         const std::string& where) {
  const auto cols = static_cast<int64_t>(group_of.size());
  std::vector<int64_t> sizes(static_cast<size_t>(groups));
  for (int64_t i = 0; i < cols; ++i) {
    const int32_t group = group_of[static_cast<size_t>(i)];
    if (group < 0 || group >= groups) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: column {} belongs to group {}; there are {} groups. The file is damaged.",
                  where, i, group, groups);
    }
    ++sizes[static_cast<size_t>(group)];
  }
  for (const int64_t size : sizes) {
    if (size * groups == cols) continue;
    return fail(ErrorCode::kUnsupported,
                "{}: a group has {} columns and others more or less; quench reads groups of equal "
                "size.",
                where, size);
  }
  if (std::is_sorted(group_of.begin(), group_of.end())) return std::vector<int32_t>();
  std::vector<int32_t> order(group_of.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return group_of[static_cast<size_t>(a)] < group_of[static_cast<size_t>(b)];
  });
  return order;
}

void unpack_codes(const std::byte* stream, int64_t count, int bits, uint8_t* codes) {
  const auto put = [codes](int64_t i, uint64_t code) { codes[i] = static_cast<uint8_t>(code); };
  using integer_format::for_each_code;
  switch (bits) {
    case 2:
      return for_each_code<2>(stream, count, put);
    case 3:
      return for_each_code<3>(stream, count, put);
    case 4:
      return for_each_code<4>(stream, count, put);
    case 5:
      return for_each_code<5>(stream, count, put);
    case 6:
      return for_each_code<6>(stream, count, put);
    case 7:
      return for_each_code<7>(stream, count, put);
    default:
      QUENCH_CHECK(bits == 8, "{} bits", bits);
      std::memcpy(codes, stream, static_cast<size_t>(count));
  }
}

void pack_codes(const uint8_t* codes, int64_t count, int bits, std::byte* stream) {
  integer_format::put_codes(codes, count, bits, stream);
}

int64_t integer_group(const Format& format) {
  return format.name.starts_with("int") && format.grid.read != nullptr ? format.tile_cols : -1;
}

}  // namespace quench
