// Looking into a measurement's JSON, which may come from a file: what is missing or of another type
// is unknown, never an error. Paths are JSON pointers (RFC 6901). Pure functions.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"

namespace quench {

inline const Json& part(const Json& json, const char* path) {
  static const Json unknown;
  const Json::json_pointer pointer(path);
  return json.contains(pointer) ? json.at(pointer) : unknown;
}
inline std::optional<double> number(const Json& json, const char* path) {
  const Json& value = part(json, path);
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}
inline std::string text(const Json& json, const char* path) {
  const Json& value = part(json, path);
  return value.is_string() ? value.get<std::string>() : std::string();
}
// The elements of a list; none when it is something else.
inline const Json& list(const Json& json, const char* path) {
  static const Json none = Json::array();
  const Json& value = part(json, path);
  return value.is_array() ? value : none;
}

}  // namespace quench
