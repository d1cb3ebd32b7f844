#include "measure/task.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/paths.h"
#include "engine/generation_config.h"
#include "measure/member_reader.h"

namespace quench {
namespace {

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
  MemberReader reader(json, where);
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
  MemberReader reader(json, where);
  reader.expect_kind("protocol");
  Protocol protocol;
  protocol.tasks = reader.texts("tasks");
  protocol.profiles = reader.texts("profiles");
  if (const Json* sampling = reader.require("sampling", &Json::is_object, "an object"))
    protocol.sampling = *sampling;
  if (const Json* lengths = reader.require("lengths", &Json::is_object, "an object")) {
    for (const auto& [name, row] : lengths->items()) {
      MemberReader fields(row, fmt::format("{}: length \"{}\"", where, name));
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
  QUENCH_TRY(const std::string folder, data_path("tasks"));
  const std::string path = fmt::format("{}/{}.json", folder, name);
  if (!file_exists(path)) {
    std::vector<std::string> known;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::filesystem::path& file = entry.path();
      if (file.extension() == ".json" && file.stem() != "protocol") known.push_back(file.stem());
    }
    std::sort(known.begin(), known.end());
    return fail(ErrorCode::kNotFound, "There is no task \"{}\"; known are {}.", name,
                fmt::join(known, ", "));
  }
  QUENCH_TRY(const Json json, read_json_file(path));
  return parse_task(json, path);
}

Result<Protocol> load_protocol() {
  QUENCH_TRY(const std::string path, data_path("tasks/protocol.json"));
  QUENCH_TRY(const Json json, read_json_file(path));
  return parse_protocol(json, path);
}

}  // namespace quench
