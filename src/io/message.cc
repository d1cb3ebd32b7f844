#include "io/message.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace quench {
namespace {

constexpr size_t kMaxShownBytes = 120;
constexpr size_t kMaxShownNames = 3;

}  // namespace

std::string in_quotes(std::string_view name) {
  std::string text = "\"";
  size_t shown_bytes = std::min(name.size(), kMaxShownBytes);
  // Cut before a code point, not inside it.
  while (shown_bytes < name.size() && shown_bytes > 0 && (name[shown_bytes] & 0xc0) == 0x80) {
    --shown_bytes;
  }
  for (const char c : name.substr(0, shown_bytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '"' || c == '\\') {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  text += shown_bytes < name.size() ? "...\"" : "\"";
  return text;
}

std::string shape_text(std::span<const int64_t> shape) {
  constexpr size_t kMaxShownDims = 16;
  if (shape.size() <= kMaxShownDims) return fmt::format("[{}]", fmt::join(shape, ", "));
  return fmt::format("[{}, ...]", fmt::join(shape.first(kMaxShownDims), ", "));
}

std::string first_names(std::span<const std::string> names) {
  std::string text;
  const size_t shown = std::min(names.size(), kMaxShownNames);
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) text += ", ";
    text += in_quotes(names[i]);
  }
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

}  // namespace quench
