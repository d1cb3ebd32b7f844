// Breaking text into lines. Pure function.
#pragma once

#include <string>
#include <string_view>

namespace quench {

// Lines of at most 100 terminal columns, broken at spaces and, as Chinese is written, between wide
// characters, but not before closing punctuation. Ends with a line break.
std::string wrap(std::string_view text);

}  // namespace quench
