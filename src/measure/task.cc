#include "measure/task.h"

#include <fmt/ranges.h>

#include "base/paths.h"
#include "engine/generation_config.h"

namespace quench {
namespace {

// Reads the members of one JSON object; the first problem stays and is told by finish().
class Reader {
 public:
  Reader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
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

Result<void> check_sampling(const Json& sampling, const std::string& where) {
  QUENCH_TRY([[maybe_unused]] auto ignored, merge_generation_config(sampling, where));
  return {};
}

}  // namespace

Result<std::string> Task::prompt(const std::string& lang) const {
  if (const auto it = prompts.find(lang); it != prompts.end()) return it->second;
  std::vector<std::string> known;
  for (const auto& [name_of, text] : prompts) known.push_back(name_of);
  return fail(ErrorCode::kNotFound, "The task \"{}\" has no prompt in \"{}\"; it has {}.", name,
              lang, fmt::join(known, ", "));
}

Result<ProtocolLength> Protocol::length(const std::string& length_name) const {
  if (const auto it = lengths.find(length_name); it != lengths.end()) return it->second;
  std::vector<std::string> known;
  for (const auto& [name, value] : lengths) known.push_back(name);
  return fail(ErrorCode::kNotFound, "The protocol has no length \"{}\"; it has {}.", length_name,
              fmt::join(known, ", "));
}

Result<SamplingSettings> Protocol::settings(const Task& task, const ProtocolLength& length) const {
  QUENCH_TRY(SamplingSettings settings, merge_generation_config(sampling, "tasks/protocol.json"));
  QUENCH_TRY(settings, merge_generation_config(task.sampling, task.name, settings));
  if (length.max_new_tokens) settings.max_new_tokens = static_cast<int>(*length.max_new_tokens);
  return settings;
}

Result<Task> parse_task(const Json& json, const std::string& where) {
  Reader reader(json, where);
  reader.expect_kind("generate");
  Task task;
  task.name = reader.text("name");
  task.description = reader.text("description");
  if (const Json* prompts = reader.require("prompts", &Json::is_object, "an object")) {
    for (const auto& [lang, text] : prompts->items()) {
      if (text.is_string() && !text.get_ref<const std::string&>().empty()) {
        task.prompts[lang] = text.get<std::string>();
      } else {
        reader.refuse("a text for each language", text);
      }
    }
    if (prompts->empty()) reader.refuse("at least one prompt", *prompts);
  }
  task.max_chars = reader.count("max_chars");
  task.target_chars = reader.count("target_chars");
  task.target_lines = reader.count("target_lines");
  if (const Json* sampling = reader.find("sampling", &Json::is_object, "an object"))
    task.sampling = *sampling;
  QUENCH_TRY_VOID(reader.finish());
  QUENCH_TRY_VOID(check_sampling(task.sampling, where));
  return task;
}

Result<Protocol> parse_protocol(const Json& json, const std::string& where) {
  Reader reader(json, where);
  reader.expect_kind("protocol");
  Protocol protocol;
  protocol.tasks = reader.texts("tasks");
  protocol.profiles = reader.texts("profiles");
  if (const Json* sampling = reader.require("sampling", &Json::is_object, "an object"))
    protocol.sampling = *sampling;
  if (const Json* lengths = reader.require("lengths", &Json::is_object, "an object")) {
    for (const auto& [name, row] : lengths->items()) {
      Reader fields(row, fmt::format("{}: length \"{}\"", where, name));
      ProtocolLength length;
      length.name = name;
      length.warmups = fields.count("warmups").value_or(length.warmups);
      length.runs = fields.count("runs").value_or(length.runs);
      length.max_new_tokens = fields.count("max_new_tokens");
      length.max_tokens_per_domain = fields.count("max_tokens_per_domain").value_or(0);
      length.continuation_items = fields.count("continuation_items").value_or(0);
      if (length.runs < 1) fields.refuse("at least one run", row);
      if (length.max_new_tokens == 0) fields.refuse("at least one new token", row);
      QUENCH_TRY_VOID(fields.finish());
      protocol.lengths[name] = length;
    }
  }
  QUENCH_TRY_VOID(reader.finish());
  QUENCH_TRY_VOID(check_sampling(protocol.sampling, where));
  return protocol;
}

Result<Task> load_task(const std::string& name) {
  QUENCH_TRY(const std::string path, data_path(fmt::format("tasks/{}.json", name)));
  QUENCH_TRY(const Json json, read_json_file(path));
  return parse_task(json, path);
}

Result<Protocol> load_protocol() {
  QUENCH_TRY(const std::string path, data_path("tasks/protocol.json"));
  QUENCH_TRY(const Json json, read_json_file(path));
  return parse_protocol(json, path);
}

}  // namespace quench
