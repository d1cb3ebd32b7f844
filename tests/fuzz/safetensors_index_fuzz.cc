// Any bytes as model.safetensors.index.json: an answer or an error, and no shard outside the
// directory.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "io/weight_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto index = quench::parse_weight_index(text, "fuzz");
  if (!index) return 0;
  for (const auto& [tensor, shard] : index->weight_map) {
    const std::string path = "/" + shard + "/";
    if (path.find("/../") != std::string::npos || path.find("//") != std::string::npos)
      std::abort();
  }
  return 0;
}
