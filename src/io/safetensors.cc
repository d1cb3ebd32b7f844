#include "io/safetensors.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "base/bytes.h"
#include "io/big_json.h"
#include "io/message.h"

namespace quench {
namespace {

namespace dom = simdjson::dom;

constexpr int64_t kLengthBytes = 8;  // the header's length, in front of the header

// Which tensor of which file, for messages: model.safetensors: tensor "x"
std::string tensor_text(std::string_view where, std::string_view name) {
  return fmt::format("{}: tensor {}", where, in_quotes(name));
}

Result<int64_t> size_number(dom::element element, std::string_view where, std::string_view name,
                            const char* field) {
  int64_t value = 0;
  if (element.get(value) == simdjson::SUCCESS && value >= 0) return value;
  std::string found = json_type_text(element);
  if (element.is_int64()) found = fmt::format("{}", element.get_int64().value_unsafe());
  if (element.is_uint64() && !element.is_int64()) {
    found = fmt::format("{}", element.get_uint64().value_unsafe());
  }
  return fail(ErrorCode::kInvalidFile, "{}: \"{}\" has {}, expected integers from 0 to 2^63 - 1.",
              tensor_text(where, name), field, found);
}

// The three fields of a header entry, each exactly once. Fields that we do not know are passed
// over, as the reference reader does.
struct EntryFields {
  std::optional<dom::element> dtype;
  std::optional<dom::element> shape;
  std::optional<dom::element> data_offsets;
};

Result<EntryFields> entry_fields(dom::element value, std::string_view where,
                                 std::string_view name) {
  dom::object object;
  if (value.get(object) != simdjson::SUCCESS) {
    return fail(ErrorCode::kInvalidFile,
                "{} is {} in the header, expected an object with dtype, shape and data_offsets.",
                tensor_text(where, name), json_type_text(value));
  }
  EntryFields fields;
  for (const auto [key, field] : object) {
    std::optional<dom::element>* slot = key == "dtype"          ? &fields.dtype
                                        : key == "shape"        ? &fields.shape
                                        : key == "data_offsets" ? &fields.data_offsets
                                                                : nullptr;
    if (slot == nullptr) continue;
    if (slot->has_value()) {
      return fail(ErrorCode::kInvalidFile, "{} has \"{}\" twice in the header, expected once.",
                  tensor_text(where, name), key);
    }
    *slot = field;
  }
  const char* missing = !fields.dtype          ? "dtype"
                        : !fields.shape        ? "shape"
                        : !fields.data_offsets ? "data_offsets"
                                               : nullptr;
  if (missing != nullptr) {
    return fail(ErrorCode::kInvalidFile,
                "{} has no \"{}\" in the header, expected dtype, shape and data_offsets.",
                tensor_text(where, name), missing);
  }
  return fields;
}

Result<Dtype> parse_dtype(dom::element element, std::string_view where, std::string_view name) {
  std::string_view text;
  if (element.get(text) != simdjson::SUCCESS) {
    return fail(ErrorCode::kInvalidFile, "{}: \"dtype\" is {}, expected a string such as \"BF16\".",
                tensor_text(where, name), json_type_text(element));
  }
  const std::optional<Dtype> dtype = dtype_from_name(text);
  if (!dtype) {
    return fail(ErrorCode::kUnsupported,
                "{} has dtype {}, expected one of the safetensors format (BF16, F16, F32, ...).",
                tensor_text(where, name), in_quotes(text));
  }
  return *dtype;
}

Result<std::vector<int64_t>> parse_sizes(dom::element element, std::string_view where,
                                         std::string_view name, const char* field) {
  dom::array array;
  if (element.get(array) != simdjson::SUCCESS) {
    return fail(ErrorCode::kInvalidFile, "{}: \"{}\" is {}, expected an array of integers.",
                tensor_text(where, name), field, json_type_text(element));
  }
  std::vector<int64_t> sizes;
  for (const dom::element item : array) {
    QUENCH_TRY(const int64_t value, size_number(item, where, name, field));
    sizes.push_back(value);
  }
  return sizes;
}

// One tensor of the header. Its offsets are checked against the data of the file, `data_bytes`
// bytes; that all tensors together tile the data is checked later.
Result<TensorEntry> parse_entry(std::string_view name, dom::element value, int64_t data_bytes,
                                std::string_view where) {
  QUENCH_TRY(const EntryFields fields, entry_fields(value, where, name));
  TensorEntry entry;
  entry.name = name;
  QUENCH_TRY(entry.dtype, parse_dtype(*fields.dtype, where, name));
  QUENCH_TRY(entry.shape, parse_sizes(*fields.shape, where, name, "shape"));
  QUENCH_TRY(const std::vector<int64_t> offsets,
             parse_sizes(*fields.data_offsets, where, name, "data_offsets"));
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return fail(ErrorCode::kInvalidFile,
                "{} has data_offsets {}, expected [begin, end] with begin <= end.",
                tensor_text(where, name), shape_text(offsets));
  }
  if (offsets[1] > data_bytes) {
    return fail(ErrorCode::kInvalidFile,
                "{} has data_offsets {}, but the file holds only {} bytes of data; it is probably "
                "cut off: compare its size with the original and download it again.",
                tensor_text(where, name), shape_text(offsets), data_bytes);
  }
  const std::optional<int64_t> expected_bytes = tensor_bytes(entry.dtype, entry.shape);
  if (!expected_bytes) {
    return fail(ErrorCode::kInvalidFile,
                "{} has shape {} of {}, which is not a whole number of bytes below 2^63.",
                tensor_text(where, name), shape_text(entry.shape), dtype_name(entry.dtype));
  }
  if (*expected_bytes != offsets[1] - offsets[0]) {
    return fail(ErrorCode::kInvalidFile,
                "{} has shape {} of {}, which is {} bytes, but its data_offsets {} hold {} bytes.",
                tensor_text(where, name), shape_text(entry.shape), dtype_name(entry.dtype),
                *expected_bytes, shape_text(offsets), offsets[1] - offsets[0]);
  }
  entry.offset_bytes = offsets[0];
  return entry;
}

Result<std::map<std::string, std::string>> parse_metadata(dom::element value,
                                                          std::string_view where) {
  dom::object object;
  if (value.get(object) != simdjson::SUCCESS) {
    return fail(ErrorCode::kInvalidFile,
                "{}: \"__metadata__\" is {}, expected an object that maps strings to strings.",
                where, json_type_text(value));
  }
  std::map<std::string, std::string> metadata;
  for (const auto [key, item] : object) {
    std::string_view text;
    if (item.get(text) != simdjson::SUCCESS) {
      return fail(ErrorCode::kInvalidFile, "{}: \"__metadata__\" has {} for {}, expected a string.",
                  where, json_type_text(item), in_quotes(key));
    }
    if (!metadata.emplace(key, text).second) {
      return fail(ErrorCode::kInvalidFile, "{}: \"__metadata__\" has the key {} twice.", where,
                  in_quotes(key));
    }
  }
  return metadata;
}

// The header's text, without a byte of it parsed.
Result<std::string_view> header_text(std::span<const std::byte> bytes, std::string_view where) {
  const auto file_bytes = static_cast<int64_t>(bytes.size());
  if (file_bytes < kLengthBytes) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the file has {} bytes, expected a safetensors file, which has at least 10.",
                where, file_bytes);
  }
  constexpr std::string_view kLfsPointer = "version https://git-lfs";
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.starts_with(kLfsPointer)) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the file is a git-lfs pointer and not the weights; run `git lfs pull` in its "
                "directory.",
                where);
  }
  const auto header_bytes = load<uint64_t>(bytes.data());
  if (header_bytes > static_cast<uint64_t>(kMaxSafetensorsHeaderBytes)) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the header length is {} bytes, expected at most {}; this is not a "
                "safetensors file, or it is damaged.",
                where, header_bytes, kMaxSafetensorsHeaderBytes);
  }
  if (static_cast<int64_t>(header_bytes) > file_bytes - kLengthBytes) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the header length is {} bytes, but only {} follow; the file is cut off or not "
                "a safetensors file: download it again.",
                where, header_bytes, file_bytes - kLengthBytes);
  }
  const std::string_view header = text.substr(kLengthBytes, header_bytes);
  if (!header.starts_with('{')) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the header starts with {}, expected \"{{\"; this is not a safetensors file, "
                "or it is damaged.",
                where, header.empty() ? "nothing" : in_quotes(header.substr(0, 1)));
  }
  return header;
}

// The format forbids overlaps and holes: sorted by offset, each tensor starts where the one before
// it ends.
Result<void> check_tiling(const std::vector<TensorEntry>& entries, int64_t data_bytes,
                          std::string_view where) {
  int64_t end = 0;
  std::string_view previous;
  for (const TensorEntry& entry : entries) {
    const int64_t begin = entry.offset_bytes;
    if (begin < end) {
      return fail(ErrorCode::kInvalidFile,
                  "{} starts at data offset {}, but tensor {} before it ends at {}; expected "
                  "tensors that do not overlap.",
                  tensor_text(where, entry.name), begin, in_quotes(previous), end);
    }
    if (begin > end) {
      return fail(ErrorCode::kInvalidFile,
                  "{} starts at data offset {}, but the data before it ends at {}; expected no "
                  "hole between tensors.",
                  tensor_text(where, entry.name), begin, end);
    }
    end = begin + *tensor_bytes(entry.dtype, entry.shape);
    previous = entry.name;
  }
  if (end != data_bytes) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the tensors end at data offset {}, but the file holds {} bytes of data; "
                "expected both to be equal.",
                where, end, data_bytes);
  }
  return {};
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  QUENCH_TRY(MappedFile mapped, MappedFile::open(path));
  QUENCH_TRY(SafetensorsFile file, parse(mapped.bytes(), path));
  file.file_ = std::move(mapped);
  return file;
}

Result<SafetensorsFile> SafetensorsFile::parse(std::span<const std::byte> bytes,
                                               std::string_view where) {
  SafetensorsFile file;
  file.path_ = where;
  file.bytes_ = bytes;
  QUENCH_TRY(const std::string_view header, header_text(bytes, where));
  const auto data_begin = kLengthBytes + static_cast<int64_t>(header.size());
  const int64_t data_bytes = static_cast<int64_t>(bytes.size()) - data_begin;

  dom::parser parser;
  QUENCH_TRY(const dom::object root,
             parse_big_object(parser, header, fmt::format("{}: the header", where)));
  bool has_metadata = false;
  for (const auto [name, value] : root) {
    if (name == "__metadata__") {
      if (has_metadata) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: the header has \"__metadata__\" twice, expected once.", where);
      }
      has_metadata = true;
      QUENCH_TRY(file.metadata_, parse_metadata(value, where));
      continue;
    }
    QUENCH_TRY(TensorEntry entry, parse_entry(name, value, data_bytes, where));
    file.entries_.push_back(std::move(entry));
  }

  std::vector<TensorEntry>& entries = file.entries_;
  // Tensors without elements share an offset with their successor and come first.
  std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tuple(a.offset_bytes, *tensor_bytes(a.dtype, a.shape), std::string_view(a.name)) <
           std::tuple(b.offset_bytes, *tensor_bytes(b.dtype, b.shape), std::string_view(b.name));
  });
  file.by_name_.resize(entries.size());
  std::iota(file.by_name_.begin(), file.by_name_.end(), 0);
  std::sort(file.by_name_.begin(), file.by_name_.end(),
            [&](int a, int b) { return entries[a].name < entries[b].name; });
  for (size_t i = 1; i < entries.size(); ++i) {
    const std::string& name = entries[file.by_name_[i]].name;
    if (name == entries[file.by_name_[i - 1]].name) {
      return fail(ErrorCode::kInvalidFile, "{} is in the header twice, expected once.",
                  tensor_text(where, name));
    }
  }
  QUENCH_TRY_VOID(check_tiling(entries, data_bytes, where));
  for (TensorEntry& entry : entries) {
    const auto tensor_size = static_cast<size_t>(*tensor_bytes(entry.dtype, entry.shape));
    entry.offset_bytes += data_begin;
    entry.data = bytes.subspan(static_cast<size_t>(entry.offset_bytes), tensor_size);
  }
  return file;
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto it = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [&](int index, std::string_view wanted) { return entries_[index].name < wanted; });
  return it != by_name_.end() && entries_[*it].name == name ? &entries_[*it] : nullptr;
}

}  // namespace quench
