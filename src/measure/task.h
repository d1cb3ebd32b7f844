// Task: one benchmark described by data (tasks/<name>.json), and the protocol that all of them run
// under (tasks/protocol.json). The schema is in docs/measuring.md.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "quench/sampling.h"

namespace quench {

struct Task {
  std::string name;
  std::string description;
  std::map<std::string, std::string> prompts;  // language ("en", "zh") -> user message
  // What the prompt asks for. Guidance for reports: an answer that misses it is not an error.
  std::optional<int64_t> max_chars;
  std::optional<int64_t> target_chars;
  std::optional<int64_t> target_lines;
  Json sampling = Json::object();  // overrides, in the keys of a generation_config.json

  // kNotFound with the languages there are.
  Result<std::string> prompt(const std::string& lang) const;
};

// How often and how much: one of the protocol's named lengths.
struct ProtocolLength {
  std::string name;  // "full", "short", "quick"
  int64_t warmups = 3;
  int64_t runs = 10;
  std::optional<int64_t> max_new_tokens;  // over the protocol's
  int64_t max_tokens_per_domain = 0;      // of an evaluation; 0: all
  int64_t continuation_items = 0;         // questions per domain of the continuation test
};

struct Protocol {
  std::vector<std::string> tasks;
  std::vector<std::string> profiles;  // what a shootout compares unless told otherwise
  Json sampling = Json::object();     // in the keys of a generation_config.json
  std::map<std::string, ProtocolLength> lengths;

  // kNotFound with the names there are.
  Result<ProtocolLength> length(const std::string& length_name) const;
  // The settings of one run: defaults that change nothing, then the protocol, then the task, then
  // the length. A model's own temperature, top_k and the like do not count: every model is measured
  // under the same settings. Its stop tokens do; the target adds them.
  Result<SamplingSettings> settings(const Task& task, const ProtocolLength& length) const;
};

Result<Task> parse_task(const Json& json, const std::string& where);
Result<Protocol> parse_protocol(const Json& json, const std::string& where);
// From the shipped tasks/<name>.json.
Result<Task> load_task(const std::string& name);
Result<Protocol> load_protocol();

}  // namespace quench
