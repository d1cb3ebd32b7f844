// JSON values as Python writes them, which is what the models saw in training. Pure functions: any
// thread.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace quench {

// json.dumps(value, ensure_ascii=False): ", " and ": " between the parts, keys in their order.
std::string python_json(const Json& value);

// str(value): True, None, [1, 'a'], {'k': 2.5}; a string is itself.
std::string python_str(const Json& value);

// str.strip() and str.strip(characters) of one side or both.
std::string_view python_strip(std::string_view text);
std::string_view strip_left(std::string_view text, char c);
std::string_view strip_right(std::string_view text, char c);

}  // namespace quench
