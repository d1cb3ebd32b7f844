// Quantities as people type them, with a unit behind the number. Pure functions; any thread.
#pragma once

#include <string>

#include "base/result.h"

namespace quench {

// "30ms", "7s", "20min", "1h"; a bare number counts as seconds. `what` names it in the error.
Result<double> parse_seconds(const std::string& text, const std::string& what);

}  // namespace quench
