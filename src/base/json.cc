#include "base/json.h"

#include <set>
#include <vector>

#include "base/file.h"

namespace quench {

Result<Json> parse_json(std::string_view text, std::string_view where) {
  std::string problem;
  std::vector<std::set<std::string>> keys;  // one set per open object
  auto callback = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (!problem.empty()) return false;
    switch (event) {
      case Json::parse_event_t::object_start:
      case Json::parse_event_t::array_start:
        if (depth >= kMaxJsonDepth)
          problem = fmt::format("is nested deeper than {}", kMaxJsonDepth);
        if (event == Json::parse_event_t::object_start) keys.emplace_back();
        break;
      case Json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case Json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys.back().insert(key).second) problem = fmt::format("has the key \"{}\" twice", key);
        break;
      }
      default:
        break;
    }
    return problem.empty();
  };
  Json result;
  try {
    result = Json::parse(text.begin(), text.end(), callback);
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorCode::kInvalidFile, "{}: not valid JSON: {}.", where, e.what());
  }
  if (!problem.empty()) return fail(ErrorCode::kInvalidFile, "{}: the JSON {}.", where, problem);
  return result;
}

Result<Json> read_json_file(const std::string& path) {
  QUENCH_TRY(std::string text, read_file(path));
  return parse_json(text, path);
}

}  // namespace quench
