// Any bytes as a small JSON file: an answer or an error; what was accepted is accepted again.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = quench::parse_json(text, "fuzz");
  if (json && !quench::parse_json(json->dump(), "again")) std::abort();
  return 0;
}
