#include "io/gguf_writer.h"

#include "base/bytes.h"
#include "io/message.h"

namespace quench {
namespace {

constexpr uint32_t kVersion = 3;
constexpr int64_t kAlignment = 32;  // what a file without general.alignment has
constexpr size_t kMaxNameBytes = 63;

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void put_string(std::string& bytes, std::string_view text) {
  put<uint64_t>(bytes, text.size());
  bytes += text;
}

}  // namespace

void GgufKeys::begin(std::string_view key, GgufKind kind) {
  count_ += 1;
  put_string(bytes_, key);
  put(bytes_, static_cast<uint32_t>(kind));
}

void GgufKeys::begin_array(std::string_view key, GgufKind kind, uint64_t count) {
  begin(key, GgufKind::kArray);
  put(bytes_, static_cast<uint32_t>(kind));
  put(bytes_, count);
}

void GgufKeys::add_u32(std::string_view key, uint32_t value) {
  begin(key, GgufKind::kU32);
  put(bytes_, value);
}

void GgufKeys::add_f32(std::string_view key, float value) {
  begin(key, GgufKind::kF32);
  put(bytes_, value);
}

void GgufKeys::add_bool(std::string_view key, bool value) {
  begin(key, GgufKind::kBool);
  put<uint8_t>(bytes_, value ? 1 : 0);
}

void GgufKeys::add_string(std::string_view key, std::string_view value) {
  begin(key, GgufKind::kString);
  put_string(bytes_, value);
}

void GgufKeys::add_strings(std::string_view key, std::span<const std::string> values) {
  begin_array(key, GgufKind::kString, values.size());
  for (const std::string& value : values) put_string(bytes_, value);
}

void GgufKeys::add_i32s(std::string_view key, std::span<const int32_t> values) {
  begin_array(key, GgufKind::kI32, values.size());
  for (const int32_t value : values) put(bytes_, value);
}

Result<GgufWriter> GgufWriter::create(const std::string& path, const GgufKeys& keys,
                                      std::span<const NewGgufTensor> tensors) {
  std::string header = "GGUF";
  put(header, kVersion);
  put<uint64_t>(header, tensors.size());
  put<uint64_t>(header, keys.count());
  header += keys.bytes();
  GgufWriter writer;
  int64_t end = 0;
  for (const NewGgufTensor& tensor : tensors) {
    const auto count = num_elements(tensor.shape);
    const int64_t block = tensor.type->block_weights;
    const auto size_bytes =
        count ? checked_mul(*count / block, tensor.type->block_bytes) : std::nullopt;
    const auto next = size_bytes ? checked_add(end, *size_bytes + kAlignment) : std::nullopt;
    if (!next || tensor.shape.empty() || tensor.shape.back() % block != 0) {
      return fail(ErrorCode::kInvalidArgument,
                  "{}: tensor {} has shape {} of {}, expected whole blocks of {} below 2^63 bytes.",
                  path, in_quotes(tensor.name), shape_text(tensor.shape), tensor.type->name, block);
    }
    if (tensor.name.size() > kMaxNameBytes || !writer.slots_.add(tensor.name, end, *size_bytes)) {
      return fail(ErrorCode::kInvalidArgument,
                  "{}: {} cannot be a tensor's name, expected unique names of at most {} bytes.",
                  path, in_quotes(tensor.name), kMaxNameBytes);
    }
    put_string(header, tensor.name);
    put(header, static_cast<uint32_t>(tensor.shape.size()));
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) put(header, *it);
    put(header, tensor.type->id);
    put(header, end);
    end = round_up(end + *size_bytes, kAlignment);
  }
  header.resize(static_cast<size_t>(round_up(static_cast<int64_t>(header.size()), kAlignment)));
  const auto data_begin = static_cast<int64_t>(header.size());
  writer.slots_.set_data_begin(data_begin);
  QUENCH_TRY(writer.file_, AtomicFile::create(path, data_begin + end));
  QUENCH_TRY_VOID(writer.file_.write_at(0, std::as_bytes(std::span(header))));
  // Readers want the padding behind the last tensor too.
  if (end > 0) {
    const std::byte zero{0};
    QUENCH_TRY_VOID(writer.file_.write_at(data_begin + end - 1, {&zero, 1}));
  }
  return writer;
}

Result<void> GgufWriter::finish() {
  QUENCH_TRY_VOID(slots_.check_full(file_));
  return file_.commit();
}

}  // namespace quench
