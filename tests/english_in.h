// For tests of texts in other languages: what of a text is still English.
#pragma once

#include <regex>
#include <string>

namespace quench {

// The first run of four small words, which no name, unit or format has; empty when there is none.
inline std::string english_in(const std::string& text) {
  static const std::regex kSentence("[a-z]+( [a-z]{2,}){3,}");
  std::smatch found;
  return std::regex_search(text, found, kSentence) ? found.str() : std::string();
}

}  // namespace quench
