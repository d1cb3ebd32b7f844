#include "io/safetensors_writer.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/json.h"
#include "io/message.h"
#include "io/safetensors.h"

namespace quench {
namespace {

std::string json_string(const std::string& text) { return Json(text).dump(); }

bool is_utf8(const std::string& text) {
  try {
    json_string(text);
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

// The header's first member, or nothing without metadata.
Result<std::string> metadata_json(const std::string& path,
                                  const std::map<std::string, std::string>& metadata) {
  std::string members;
  for (const auto& [key, value] : metadata) {
    if (!is_utf8(key) || !is_utf8(value)) {
      return fail(ErrorCode::kInvalidArgument, "{}: the metadata {} is not UTF-8.", path,
                  in_quotes(key));
    }
    members +=
        fmt::format("{}{}:{}", members.empty() ? "" : ",", json_string(key), json_string(value));
  }
  return members.empty() ? std::string() : fmt::format("\"__metadata__\":{{{}}}", members);
}

}  // namespace

Result<SafetensorsLayout> lay_out_safetensors(const std::string& path,
                                              std::span<const NewTensor> tensors,
                                              const std::map<std::string, std::string>& metadata) {
  // Wider elements first; the declared order among equals. (Not std::stable_sort: libstdc++ 12
  // implements it with a function that clang 19 warns of.)
  std::vector<std::pair<int, size_t>> order;
  for (size_t i = 0; i < tensors.size(); ++i) order.emplace_back(-dtype_bits(tensors[i].dtype), i);
  std::sort(order.begin(), order.end());
  SafetensorsLayout layout;
  QUENCH_TRY(const std::string members, metadata_json(path, metadata));
  std::string header = "{";
  header += members;
  int64_t end = 0;
  for (const auto& [negative_bits, index] : order) {
    const NewTensor& tensor = tensors[index];
    const auto size_bytes = tensor_bytes(tensor.dtype, tensor.shape);
    const auto next = size_bytes ? checked_add(end, *size_bytes) : std::nullopt;
    if (!next) {
      return fail(ErrorCode::kInvalidArgument,
                  "{}: tensor {} has shape {} of {}, expected a whole number of bytes below 2^63.",
                  path, in_quotes(tensor.name), shape_text(tensor.shape), dtype_name(tensor.dtype));
    }
    if (tensor.name == "__metadata__" || !is_utf8(tensor.name) ||
        !layout.slots.emplace(tensor.name, SafetensorsLayout::Slot{end, *size_bytes}).second) {
      return fail(ErrorCode::kInvalidArgument,
                  "{}: {} cannot be a tensor's name, expected unique UTF-8 names other than "
                  "\"__metadata__\".",
                  path, in_quotes(tensor.name));
    }
    if (header.size() > 1) header += ',';
    header += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                          json_string(tensor.name), dtype_name(tensor.dtype),
                          fmt::join(tensor.shape, ","), end, *next);
    end = *next;
  }
  header += "}";
  header.resize(static_cast<size_t>(round_up(static_cast<int64_t>(header.size()), 8)), ' ');
  const auto header_bytes = static_cast<int64_t>(header.size());
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return fail(ErrorCode::kInvalidArgument,
                "{}: the header of {} tensors has {} bytes, the format allows {}; write several "
                "files.",
                path, tensors.size(), header_bytes, kMaxSafetensorsHeaderBytes);
  }
  layout.head.resize(8);
  store(reinterpret_cast<std::byte*>(layout.head.data()), static_cast<uint64_t>(header_bytes));
  layout.head += header;
  const auto data_begin = static_cast<int64_t>(layout.head.size());
  const auto file_bytes = checked_add(data_begin, end);
  if (!file_bytes) {
    return fail(ErrorCode::kInvalidArgument, "{}: the tensors together have 2^63 bytes or more.",
                path);
  }
  layout.file_bytes = *file_bytes;
  for (auto& [name, slot] : layout.slots) slot.begin_bytes += data_begin;
  return layout;
}

Result<SafetensorsWriter> SafetensorsWriter::create(
    const std::string& path, std::span<const NewTensor> tensors,
    const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer;
  QUENCH_TRY(const SafetensorsLayout layout, lay_out_safetensors(path, tensors, metadata));
  for (const auto& [name, slot] : layout.slots)
    writer.slots_.add(name, slot.begin_bytes, slot.size_bytes);
  QUENCH_TRY(writer.file_, AtomicFile::create(path, layout.file_bytes));
  QUENCH_TRY_VOID(writer.file_.write_at(0, std::as_bytes(std::span(layout.head))));
  return writer;
}

Result<void> SafetensorsWriter::finish() {
  QUENCH_TRY_VOID(slots_.check_full(file_));
  return file_.commit();
}

}  // namespace quench
