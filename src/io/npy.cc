#include "io/npy.h"

#include <charconv>
#include <cstring>
#include <optional>

#include "base/bytes.h"
#include "base/file.h"
#include "io/message.h"

namespace quench {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kHeaderBytes = 128;  // what the writer uses; the format asks for a multiple of 64

// The text of `key`'s value in the header, a Python dictionary such as
// {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
std::optional<std::string_view> dict_value(std::string_view dict, std::string_view key) {
  const size_t key_begin = dict.find(fmt::format("'{}':", key));
  if (key_begin == std::string_view::npos) return std::nullopt;
  size_t begin = key_begin + key.size() + 3;
  begin = dict.find_first_not_of(' ', begin);
  if (begin == std::string_view::npos) return std::nullopt;
  const size_t end = dict[begin] == '(' ? dict.find(')', begin) : dict.find_first_of(",}", begin);
  if (end == std::string_view::npos) return std::nullopt;
  return dict.substr(begin, end - begin);
}

// "(2, 3" -> {2, 3}; "(5," -> {5}
std::optional<std::vector<int64_t>> parse_shape(std::string_view text) {
  if (!text.starts_with('(')) return std::nullopt;
  std::vector<int64_t> shape;
  const char* p = text.data() + 1;
  const char* end = text.data() + text.size();
  while (true) {
    while (p != end && (*p == ' ' || *p == ',')) ++p;
    if (p == end) return shape;
    int64_t dim = 0;
    const auto [after, error] = std::from_chars(p, end, dim);
    if (error != std::errc() || dim < 0) return std::nullopt;
    shape.push_back(dim);
    p = after;
  }
}

}  // namespace

Result<NpyWriter> NpyWriter::create(const std::string& path, int64_t num_columns) {
  NpyWriter writer;
  writer.num_columns_ = num_columns;
  QUENCH_TRY(writer.file_, AtomicFile::create(path, 0));
  return writer;
}

Result<void> NpyWriter::append_rows(std::span<const float> values) {
  const auto count = static_cast<int64_t>(values.size());
  if (num_columns_ <= 0 || count % num_columns_ != 0) {
    return fail(ErrorCode::kInternal, "{}: got {} values, expected rows of {}.", file_.path(),
                count, num_columns_);
  }
  const int64_t offset =
      static_cast<int64_t>(kHeaderBytes) + num_rows_ * num_columns_ * int64_t{sizeof(float)};
  QUENCH_TRY_VOID(file_.write_at(offset, std::as_bytes(values)));
  num_rows_ += count / num_columns_;
  return {};
}

Result<void> NpyWriter::finish() {
  std::string header(kMagic);
  header += '\x01';  // version 1.0
  header += '\x00';
  constexpr uint16_t kDictBytes = kHeaderBytes - 10;
  header.append(reinterpret_cast<const char*>(&kDictBytes), sizeof(kDictBytes));
  header += fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
                        num_rows_, num_columns_);
  header.resize(kHeaderBytes - 1, ' ');
  header += '\n';
  QUENCH_TRY_VOID(file_.write_at(0, std::as_bytes(std::span(header))));
  return file_.commit();
}

Result<NpyMatrix> parse_npy(std::span<const std::byte> bytes, std::string_view where) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (bytes.size() < 12 || !text.starts_with(kMagic)) {
    return fail(ErrorCode::kInvalidFile, "{}: this is not a NumPy .npy file.", where);
  }
  // Version 1 has two bytes of header length, versions 2 and 3 have four.
  const auto version = static_cast<int>(bytes[6]);
  const size_t dict_begin = version == 1 ? 10 : 12;
  const size_t dict_bytes =
      version == 1 ? load<uint16_t>(bytes.data() + 8) : load<uint32_t>(bytes.data() + 8);
  if (version < 1 || version > 3 || dict_bytes > bytes.size() - dict_begin) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the header has version {} and {} bytes, expected version 1 to 3 inside {} "
                "bytes.",
                where, version, dict_bytes, bytes.size());
  }
  const std::string_view dict = text.substr(dict_begin, dict_bytes);
  const auto descr = dict_value(dict, "descr");
  const auto order = dict_value(dict, "fortran_order");
  const auto shape_value = dict_value(dict, "shape");
  if (descr != "'<f4'" || order != "False" || !shape_value) {
    return fail(ErrorCode::kUnsupported,
                "{}: the header is {}, expected descr '<f4', fortran_order False and a shape.",
                where, in_quotes(dict));
  }
  const auto shape = parse_shape(*shape_value);
  if (!shape || shape->empty() || shape->size() > 2) {
    return fail(ErrorCode::kUnsupported, "{}: the shape is {}, expected one or two dimensions.",
                where, in_quotes(fmt::format("{})", *shape_value)));
  }
  NpyMatrix matrix;
  matrix.num_rows = shape->size() == 2 ? shape->front() : 1;
  matrix.num_columns = shape->back();
  const size_t data_bytes = bytes.size() - dict_begin - dict_bytes;
  const auto count = checked_mul(matrix.num_rows, matrix.num_columns);
  const auto expected_bytes = count ? checked_mul(*count, sizeof(float)) : std::nullopt;
  if (!expected_bytes || static_cast<size_t>(*expected_bytes) != data_bytes) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the file holds {} bytes of data, expected {} of shape {}.", where, data_bytes,
                expected_bytes ? fmt::format("{}", *expected_bytes) : "another number",
                shape_text(*shape));
  }
  matrix.values.resize(static_cast<size_t>(*count));
  if (data_bytes != 0) {
    std::memcpy(matrix.values.data(), bytes.data() + dict_begin + dict_bytes, data_bytes);
  }
  return matrix;
}

Result<NpyMatrix> read_npy(const std::string& path) {
  QUENCH_TRY(const MappedFile file, MappedFile::open(path));
  return parse_npy(file.bytes(), path);
}

}  // namespace quench
