// Any bytes as a GGUF file: an answer or an error, every tensor and value inside the bytes; then
// the same as a model.
#include <cstdint>
#include <cstdlib>

#include "io/gguf_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto file = quench::GgufFile::parse(bytes, "fuzz");
  if (!file) return 0;
  const auto inside = [&](std::span<const std::byte> piece) {
    return piece.data() >= bytes.data() &&
           piece.data() + piece.size() <= bytes.data() + bytes.size();
  };
  size_t total_bytes = 0;
  for (const quench::GgufTensor& tensor : file->tensors()) {
    total_bytes += tensor.data.size();
    if (!inside(tensor.data) || tensor.data.data() != bytes.data() + tensor.offset_bytes)
      std::abort();
  }
  if (total_bytes > size) std::abort();
  for (const quench::GgufField& field : file->fields()) {
    if (!inside(field.data) || file->find(field.key) != &field) std::abort();
    (void)file->value(field.key);
    (void)file->strings(field.key);
    (void)file->integers(field.key);
  }
  const auto model = quench::describe_gguf({&*file, 1});
  if (!model) return 0;
  for (const quench::TensorEntry& entry : model->tensors) {
    if (!inside(entry.data)) std::abort();
  }
  return 0;
}
