// Parsing of small JSON files (configs, tasks, headers). Untrusted bytes: depth is capped and
// duplicate keys are refused, because two readers of one file must not see two different models.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace quench {

// Keys keep the order of the file: what we write back looks like what we read.
using Json = nlohmann::ordered_json;

constexpr int kMaxJsonDepth = 64;

// `where` names the file in the error message.
Result<Json> parse_json(std::string_view text, std::string_view where);
Result<Json> read_json_file(const std::string& path);

}  // namespace quench
