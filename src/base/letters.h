// Letters of names that people write in any case. Pure; any thread.
#pragma once

#include <cctype>
#include <string>

namespace quench {

// ASCII letters become small ones; all else stays.
inline std::string small_letters(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace quench
