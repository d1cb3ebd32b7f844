// Any bytes as a safetensors file: an answer or an error, and every tensor inside the bytes.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto file = quench::SafetensorsFile::parse(bytes, "fuzz");
  if (!file) return 0;
  size_t total_bytes = 0;
  for (const quench::TensorEntry& tensor : file->entries()) {
    total_bytes += tensor.data.size();
    if (tensor.data.data() != bytes.data() + tensor.offset_bytes) std::abort();
    if (file->find(tensor.name) != &tensor) std::abort();
    const auto count = quench::num_elements(tensor.shape);
    if (!count || static_cast<size_t>(*count) > 2 * size) std::abort();
    std::vector<float> values(static_cast<size_t>(*count));
    (void)quench::decode_to_f32(tensor.dtype, tensor.data, 0, values);
  }
  if (total_bytes > size) std::abort();
  return 0;
}
