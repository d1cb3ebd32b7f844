#include "measure/analyze/quantity.h"

#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

namespace quench {

Result<double> parse_seconds(const std::string& text, const std::string& what) {
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1.0}, {"s", 1.0}, {"ms", 1e-3}, {"us", 1e-6}, {"min", 60.0}, {"h", 3600.0}};
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && std::isfinite(value) && value > 0.0) {
    const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
    for (const auto& [name, factor] : kUnits) {
      if (unit == name) return value * factor;
    }
  }
  return fail(ErrorCode::kInvalidArgument,
              "{}: expected a time such as 30ms, 7s or 2min, found "
              "\"{}\".",
              what, text);
}

}  // namespace quench
