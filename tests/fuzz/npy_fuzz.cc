// Any bytes as a .npy file: an answer or an error, and no more memory than the bytes explain.
#include <cstdint>
#include <cstdlib>

#include "io/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto matrix = quench::parse_npy(std::as_bytes(std::span(data, size)), "fuzz");
  if (matrix && matrix->values.size() * sizeof(float) > size) std::abort();
  return 0;
}
