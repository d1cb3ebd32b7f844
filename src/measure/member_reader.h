// Reading data files that people write by hand: the members of one JSON object, with a sentence
// about the first that is not what it should be. Refers to the JSON; lives on the stack of a
// parser.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace quench {

// The first problem stays and is told by finish().
class MemberReader {
 public:
  MemberReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json_.is_object()) refuse("an object", json_);
  }

  // The member, or null when it is absent. `matches` is a predicate of Json such as is_string.
  const Json* find(const char* key, bool (Json::*matches)() const, const char* expected) {
    if (!json_.is_object()) return nullptr;
    const auto it = json_.find(key);
    if (it == json_.end()) return nullptr;
    if (((*it).*matches)()) return &*it;
    refuse(fmt::format("{} for \"{}\"", expected, key), *it);
    return nullptr;
  }
  const Json* require(const char* key, bool (Json::*matches)() const, const char* expected) {
    const Json* value = find(key, matches, expected);
    if (value == nullptr && problem_.empty()) problem_ = fmt::format("\"{}\" is missing", key);
    return value;
  }
  std::string text(const char* key) {
    const Json* value = require(key, &Json::is_string, "a string");
    return value == nullptr ? std::string() : value->get<std::string>();
  }
  // A whole number from 0 to a million.
  std::optional<int64_t> count(const char* key) {
    const Json* value = find(key, &Json::is_number_integer, "a whole number");
    if (value == nullptr) return std::nullopt;
    const bool fits = value->is_number_unsigned() && value->get<uint64_t>() <= 1000000;
    if (!fits) refuse(fmt::format("0 to 1000000 for \"{}\"", key), *value);
    return fits ? std::optional(value->get<int64_t>()) : std::nullopt;
  }
  std::vector<std::string> texts(const char* key) {
    std::vector<std::string> result;
    const Json* list = require(key, &Json::is_array, "a list of strings");
    if (list == nullptr) return result;
    for (const Json& element : *list) {
      if (element.is_string()) {
        result.push_back(element.get<std::string>());
      } else {
        refuse(fmt::format("strings in \"{}\"", key), element);
      }
    }
    return result;
  }
  void expect_kind(const char* kind) {
    if (const std::string found = text("kind"); problem_.empty() && found != kind)
      problem_ = fmt::format("expected the kind \"{}\", found \"{}\"", kind, found);
  }
  void refuse(const std::string& expected, const Json& found) {
    if (problem_.empty())
      problem_ = fmt::format("expected {}, found {:.60}", expected, found.dump());
  }
  Result<void> finish() const {
    if (problem_.empty()) return {};
    return fail(ErrorCode::kInvalidFile, "{}: {}.", where_, problem_);
  }

 private:
  const Json& json_;
  const std::string where_;
  std::string problem_;
};

}  // namespace quench
