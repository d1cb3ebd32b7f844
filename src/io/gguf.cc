#include "io/gguf.h"

#include <algorithm>
#include <bit>
#include <fstream>
#include <numeric>
#include <utility>

#include "base/bytes.h"
#include "io/message.h"

namespace quench {
namespace {

constexpr uint32_t kNumKinds = 13;
constexpr const char* kKindNames[kNumKinds] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = int64_t{1} << 20;
constexpr uint32_t kMaxDims = 4;

const char* kind_name(GgufKind kind) { return kKindNames[static_cast<uint32_t>(kind)]; }

// Bytes of one value; 0 for strings and arrays.
int64_t kind_bytes(GgufKind kind) {
  switch (kind) {
    case GgufKind::kU8:
    case GgufKind::kI8:
    case GgufKind::kBool:
      return 1;
    case GgufKind::kU16:
    case GgufKind::kI16:
      return 2;
    case GgufKind::kU32:
    case GgufKind::kI32:
    case GgufKind::kF32:
      return 4;
    case GgufKind::kU64:
    case GgufKind::kI64:
    case GgufKind::kF64:
      return 8;
    case GgufKind::kString:
    case GgufKind::kArray:
      return 0;
  }
  return 0;
}

// Walks the file's header. Every step checks that the bytes are there.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string_view where) : bytes_(bytes), where_(where) {}

  int64_t position() const { return position_; }
  int64_t rest() const { return static_cast<int64_t>(bytes_.size()) - position_; }

  Result<std::span<const std::byte>> take(uint64_t count, const char* what) {
    if (count > static_cast<uint64_t>(rest())) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: {} at byte {} takes {} bytes, but only {} follow; the file is cut off or "
                  "damaged: compare its size with the original and download it again.",
                  where_, what, position_, count, rest());
    }
    const auto piece = bytes_.subspan(static_cast<size_t>(position_), static_cast<size_t>(count));
    position_ += static_cast<int64_t>(count);
    return piece;
  }
  template <class T>
  Result<T> number(const char* what) {
    QUENCH_TRY(const auto piece, take(sizeof(T), what));
    return load<T>(piece.data());
  }
  Result<std::string_view> string(const char* what) {
    QUENCH_TRY(const auto length, number<uint64_t>(what));
    QUENCH_TRY(const auto piece, take(length, what));
    return std::string_view(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  Result<GgufKind> kind(std::string_view key) {
    const int64_t at = position_;
    QUENCH_TRY(const auto id, number<uint32_t>("the type of a value"));
    if (id < kNumKinds) return static_cast<GgufKind>(id);
    return fail(ErrorCode::kInvalidFile,
                "{}: the value of {} is of type {} at byte {}, expected one of the {} types of "
                "GGUF.",
                where_, in_quotes(key), id, at, kNumKinds);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view where_;
  int64_t position_ = 0;
};

struct Header {
  uint64_t num_tensors;
  uint64_t num_fields;
};

Result<Header> parse_header(Cursor& cursor, std::string_view where) {
  QUENCH_TRY(const auto magic, cursor.take(4, "the file's first word"));
  const std::string_view found(reinterpret_cast<const char*>(magic.data()), magic.size());
  if (found != "GGUF") {
    return fail(ErrorCode::kInvalidFile,
                "{}: the file starts with {}, expected \"GGUF\"; this is not a GGUF file.", where,
                in_quotes(found));
  }
  QUENCH_TRY(const auto version, cursor.number<uint32_t>("the version"));
  if (version == 0x02000000 || version == 0x03000000) {
    return fail(ErrorCode::kUnsupported,
                "{}: this is a big-endian GGUF file; convert it with gguf-py's "
                "gguf_convert_endian.py.",
                where);
  }
  if (version != 2 && version != 3) {
    return fail(ErrorCode::kUnsupported,
                "{}: GGUF version {}, expected 2 or 3; download a newer file of the model.", where,
                version);
  }
  Header header;
  QUENCH_TRY(header.num_tensors, cursor.number<uint64_t>("the number of tensors"));
  QUENCH_TRY(header.num_fields, cursor.number<uint64_t>("the number of keys"));
  // The least that an entry takes: nothing is reserved for what cannot be there.
  constexpr uint64_t kTensorBytes = 8 + 4 + 4 + 8;
  constexpr uint64_t kFieldBytes = 8 + 4 + 1;
  const auto rest = static_cast<uint64_t>(cursor.rest());
  if (header.num_tensors > rest / kTensorBytes || header.num_fields > rest / kFieldBytes) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the header counts {} tensors and {} keys, more than {} bytes can hold; the "
                "file is cut off or damaged.",
                where, header.num_tensors, header.num_fields, rest);
  }
  return header;
}

Result<GgufField> parse_field(Cursor& cursor, std::string_view where) {
  GgufField field;
  QUENCH_TRY(field.key, cursor.string("a key"));
  QUENCH_TRY(field.kind, cursor.kind(field.key));
  field.element_kind = field.kind;
  field.count = 1;
  uint64_t count = 1;
  if (field.kind == GgufKind::kArray) {
    QUENCH_TRY(field.element_kind, cursor.kind(field.key));
    QUENCH_TRY(count, cursor.number<uint64_t>("the length of an array"));
    if (field.element_kind == GgufKind::kArray) {
      return fail(ErrorCode::kUnsupported,
                  "{}: the value of {} is an array of arrays, which no model uses.", where,
                  in_quotes(field.key));
    }
    // An element takes a byte at least.
    if (count > static_cast<uint64_t>(cursor.rest())) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: the value of {} has {} elements, but only {} bytes follow; the file is cut "
                  "off or damaged.",
                  where, in_quotes(field.key), count, cursor.rest());
    }
    field.count = static_cast<int64_t>(count);
  }
  if (field.element_kind != GgufKind::kString) {
    const auto each = static_cast<uint64_t>(kind_bytes(field.element_kind));
    QUENCH_TRY(field.data, cursor.take(count * each, "a value"));  // count is below the file's size
    return field;
  }
  Cursor begin = cursor;
  for (uint64_t i = 0; i < count; ++i) QUENCH_TRY_VOID(cursor.string("a string"));
  QUENCH_TRY(field.data,
             begin.take(static_cast<uint64_t>(cursor.position() - begin.position()), "a value"));
  return field;
}

// A tensor's description; `data` comes later. offset_bytes counts from the data's begin.
Result<GgufTensor> parse_tensor(Cursor& cursor, std::string_view where) {
  GgufTensor tensor;
  QUENCH_TRY(tensor.name, cursor.string("a tensor's name"));
  QUENCH_TRY(const auto num_dims, cursor.number<uint32_t>("a tensor's number of dimensions"));
  if (num_dims > kMaxDims) {
    return fail(ErrorCode::kInvalidFile, "{}: tensor {} has {} dimensions, expected at most {}.",
                where, in_quotes(tensor.name), num_dims, kMaxDims);
  }
  for (uint32_t d = 0; d < num_dims; ++d) {
    QUENCH_TRY(const auto extent, cursor.number<int64_t>("a tensor's shape"));
    tensor.shape.insert(tensor.shape.begin(), extent);
  }
  QUENCH_TRY(const auto type, cursor.number<uint32_t>("a tensor's type"));
  tensor.type = find_ggml_type(type);
  if (tensor.type == nullptr) {
    return fail(ErrorCode::kUnsupported,
                "{}: tensor {} is of type {}, which is not one of ggml's that quench knows.", where,
                in_quotes(tensor.name), type);
  }
  QUENCH_TRY(tensor.offset_bytes, cursor.number<int64_t>("a tensor's offset"));
  return tensor;
}

Result<int64_t> size_of(const GgufTensor& tensor, std::string_view where) {
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  const std::optional<int64_t> count = num_elements(tensor.shape);
  const std::optional<int64_t> size_bytes =
      count ? checked_mul(*count / tensor.type->block_weights, tensor.type->block_bytes)
            : std::nullopt;
  if (size_bytes && row % tensor.type->block_weights == 0) return *size_bytes;
  return fail(ErrorCode::kInvalidFile,
              "{}: tensor {} has shape {} of {}, which is not a whole number of blocks of {} below "
              "2^63 bytes.",
              where, in_quotes(tensor.name), shape_text(tensor.shape), tensor.type->name,
              tensor.type->block_weights);
}

template <class T>
T load_as(std::span<const std::byte> data, int64_t index) {
  return load<T>(data.data() + index * static_cast<int64_t>(sizeof(T)));
}

Json scalar(const GgufField& field, int64_t i) {
  const std::span<const std::byte> data = field.data;
  switch (field.element_kind) {
    case GgufKind::kU8:
      return load_as<uint8_t>(data, i);
    case GgufKind::kI8:
      return load_as<int8_t>(data, i);
    case GgufKind::kU16:
      return load_as<uint16_t>(data, i);
    case GgufKind::kI16:
      return load_as<int16_t>(data, i);
    case GgufKind::kU32:
      return load_as<uint32_t>(data, i);
    case GgufKind::kI32:
      return load_as<int32_t>(data, i);
    case GgufKind::kF32:
      return load_as<float>(data, i);
    case GgufKind::kBool:
      return load_as<uint8_t>(data, i) != 0;
    case GgufKind::kU64:
      return load_as<uint64_t>(data, i);
    case GgufKind::kI64:
      return load_as<int64_t>(data, i);
    case GgufKind::kF64:
      return load_as<double>(data, i);
    case GgufKind::kString:
    case GgufKind::kArray:
      break;
  }
  return Json();
}

tl::unexpected<Error> wrong_kind(std::string_view where, const GgufField& field,
                                 const char* expected) {
  return fail(ErrorCode::kInvalidFile, "{}: the value of {} is {} {}, expected an array of {}.",
              where, in_quotes(field.key),
              field.kind == GgufKind::kArray ? "an array of" : "of type",
              kind_name(field.element_kind), expected);
}

}  // namespace

bool looks_like_gguf(const std::string& path) {
  if (is_directory(path) || !file_exists(path)) return false;
  if (path.ends_with(".gguf")) return true;
  std::ifstream file(path, std::ios::binary);
  char magic[4] = {};
  return file.read(magic, sizeof(magic)) && std::string_view(magic, sizeof(magic)) == "GGUF";
}

Result<GgufFile> GgufFile::open(const std::string& path) {
  QUENCH_TRY(MappedFile mapped, MappedFile::open(path));
  QUENCH_TRY(GgufFile file, parse(mapped.bytes(), path));
  file.file_ = std::move(mapped);
  return file;
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, std::string_view where) {
  GgufFile file;
  file.path_ = where;
  Cursor cursor(bytes, where);
  QUENCH_TRY(const Header header, parse_header(cursor, where));
  for (uint64_t i = 0; i < header.num_fields; ++i) {
    QUENCH_TRY(const GgufField field, parse_field(cursor, where));
    file.fields_.push_back(field);
  }
  std::vector<GgufField>& fields = file.fields_;
  std::sort(fields.begin(), fields.end(),
            [](const GgufField& a, const GgufField& b) { return a.key < b.key; });
  for (size_t i = 1; i < fields.size(); ++i) {
    if (fields[i].key != fields[i - 1].key) continue;
    return fail(ErrorCode::kInvalidFile, "{}: the key {} is there twice, expected once.", where,
                in_quotes(fields[i].key));
  }
  int64_t alignment = kDefaultAlignment;
  if (file.find("general.alignment") != nullptr) {
    const Json value = file.value("general.alignment");
    alignment = value.is_number_unsigned() && value <= kMaxAlignment ? value.get<int64_t>() : 0;
    if (!std::has_single_bit(static_cast<uint64_t>(alignment))) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: general.alignment is {}, expected a power of two up to {}.", where,
                  value.is_number() ? value.dump() : "no number", kMaxAlignment);
    }
  }
  for (uint64_t i = 0; i < header.num_tensors; ++i) {
    QUENCH_TRY(GgufTensor tensor, parse_tensor(cursor, where));
    file.tensors_.push_back(std::move(tensor));
  }
  // Without tensors the file may end before the padding.
  const auto file_bytes = static_cast<int64_t>(bytes.size());
  const int64_t data_begin = std::min(round_up(cursor.position(), alignment), file_bytes);
  std::vector<GgufTensor>& tensors = file.tensors_;
  std::sort(tensors.begin(), tensors.end(), [](const GgufTensor& a, const GgufTensor& b) {
    return std::pair(a.offset_bytes, a.name) < std::pair(b.offset_bytes, b.name);
  });
  int64_t end = 0;
  for (GgufTensor& tensor : tensors) {
    QUENCH_TRY(const int64_t size_bytes, size_of(tensor, where));
    const int64_t offset = tensor.offset_bytes;
    if (offset < end || offset % alignment != 0) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: tensor {} starts at data offset {}, expected a multiple of {} that is not "
                  "before {}, where the tensor before it ends.",
                  where, in_quotes(tensor.name), offset, alignment, end);
    }
    const std::optional<int64_t> tensor_end = checked_add(offset, size_bytes);
    if (!tensor_end || *tensor_end > file_bytes - data_begin) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: tensor {} takes {} bytes from data offset {} on, but the file holds only {} "
                  "bytes of data; it is probably cut off: compare its size with the original and "
                  "download it again.",
                  where, in_quotes(tensor.name), size_bytes, offset, file_bytes - data_begin);
    }
    end = *tensor_end;
    tensor.offset_bytes += data_begin;
    tensor.data =
        bytes.subspan(static_cast<size_t>(tensor.offset_bytes), static_cast<size_t>(size_bytes));
  }
  std::vector<std::string_view> names;
  for (const GgufTensor& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
    return fail(ErrorCode::kInvalidFile, "{}: tensor {} is there twice, expected once.", where,
                in_quotes(*twice));
  }
  return file;
}

const GgufField* GgufFile::find(std::string_view key) const {
  const auto it = std::lower_bound(
      fields_.begin(), fields_.end(), key,
      [](const GgufField& field, std::string_view wanted) { return field.key < wanted; });
  return it != fields_.end() && it->key == key ? &*it : nullptr;
}

Json GgufFile::value(std::string_view key) const {
  const GgufField* field = find(key);
  if (field == nullptr || field->kind == GgufKind::kArray) return Json();
  if (field->kind != GgufKind::kString) return scalar(*field, 0);
  return std::string(reinterpret_cast<const char*>(field->data.data()) + 8, field->data.size() - 8);
}

Result<std::optional<std::vector<std::string>>> GgufFile::strings(std::string_view key) const {
  const GgufField* field = find(key);
  if (field == nullptr) return std::nullopt;
  if (field->kind != GgufKind::kArray || field->element_kind != GgufKind::kString)
    return wrong_kind(path_, *field, "strings");
  std::vector<std::string> result;
  result.reserve(static_cast<size_t>(field->count));
  Cursor cursor(field->data, path_);
  for (int64_t i = 0; i < field->count; ++i) {
    QUENCH_TRY(const std::string_view text, cursor.string("a string"));
    result.emplace_back(text);
  }
  return result;
}

Result<std::optional<std::vector<int64_t>>> GgufFile::integers(std::string_view key) const {
  const GgufField* field = find(key);
  if (field == nullptr) return std::nullopt;
  std::vector<int64_t> result;
  for (int64_t i = 0; field->kind == GgufKind::kArray && i < field->count; ++i) {
    const Json value = scalar(*field, i);
    if (!value.is_number_integer()) return wrong_kind(path_, *field, "integers");
    result.push_back(value.get<int64_t>());
  }
  if (field->kind != GgufKind::kArray) return wrong_kind(path_, *field, "integers");
  return result;
}

}  // namespace quench
