// The lines of a text, whatever program ended them. Pure; any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace quench {

// Calls use(line number from 1, line without its end) until it returns an error.
template <class Use>
Result<void> for_each_line(const std::string& text, Use use) {
  size_t begin = 0;
  for (int64_t number = 1; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.pop_back();
    QUENCH_TRY_VOID(use(number, line));
    begin = end + 1;
  }
  return {};
}

}  // namespace quench
