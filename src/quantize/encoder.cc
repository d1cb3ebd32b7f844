#include "quantize/encoder.h"

#include <fmt/ranges.h>

namespace quench {

Result<const Algorithm*> require_algorithm(std::string_view name) {
  std::vector<std::string> known;
  for (const Algorithm* algorithm : all_algorithms()) {
    if (name == algorithm->name) return algorithm;
    known.emplace_back(algorithm->name);
  }
  return fail(ErrorCode::kInvalidArgument, "There is no algorithm \"{}\"; known are {}.", name,
              fmt::join(known, ", "));
}

}  // namespace quench
