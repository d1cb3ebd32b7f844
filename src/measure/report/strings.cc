#include "measure/report/strings.h"

#include <fmt/args.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "base/embedded.h"

namespace quench {

Strings::Strings(const std::vector<std::string_view>& files) {
  for (const std::string_view file : files) {
    const auto parsed = parse_json(embedded_file(file), file);
    QUENCH_CHECK(parsed, "{}", parsed.error().message);
    for (const auto& [key, value] : parsed->items()) {
      const bool is_new = texts_.emplace(key, value.get<std::string>()).second;
      QUENCH_CHECK(is_new, "{} has the text {} once more", file, key);
    }
  }
}

const std::vector<std::string>& Strings::languages() {
  static const std::vector<std::string> names = {"en", "zh"};
  return names;
}

const Strings& Strings::of(std::string_view language) {
  static const Strings english({"en.json", "en_explain.json", "en_plan.json"});
  static const Strings chinese({"zh.json", "zh_explain.json", "zh_plan.json"});
  QUENCH_CHECK(language == "en" || language == "zh", "no strings in {}", language);
  return language == "zh" ? chinese : english;
}

std::optional<std::string> Strings::fill(std::string_view key,
                                         const std::map<std::string, std::string>& values) const {
  const auto text = texts_.find(key);
  if (text == texts_.end()) return std::nullopt;
  fmt::dynamic_format_arg_store<fmt::format_context> arguments;
  for (const auto& [name, value] : values) arguments.push_back(fmt::arg(name.c_str(), value));
  try {
    return fmt::vformat(text->second, arguments);
  } catch (const fmt::format_error&) {  // a name that is not among the values
    return std::nullopt;
  }
}

std::string Strings::operator()(std::string_view key,
                                const std::map<std::string, std::string>& values) const {
  auto text = fill(key, values);
  QUENCH_CHECK(text, "the text {} is missing, or a value in it", key);
  return *std::move(text);
}

std::string Strings::operator()(const Sentence& sentence) const {
  std::map<std::string, std::string> values = sentence.values;
  for (const auto& [name, part] : sentence.parts) values[name] = (*this)(part);
  return (*this)(sentence.key, values);
}

std::string Strings::join(const std::vector<std::string>& parts) const {
  return fmt::format("{}", fmt::join(parts, texts_.find("list_separator")->second));
}

std::string fixed(double value, int decimals) { return fmt::format("{:.{}f}", value, decimals); }

Json english(const std::vector<Sentence>& sentences) {
  Json texts = Json::array();
  for (const Sentence& sentence : sentences) texts.push_back(Strings::of("en")(sentence));
  return texts;
}

std::string profile_text(const Strings& strings, const std::string& profile) {
  return profile == "reference" ? strings("reference") : profile;
}

namespace {

// Text, a list of texts, or a list of pairs of a profile and its figure.
std::string value_text(const Strings& strings, const Json& value) {
  if (value.is_string()) return profile_text(strings, value.get<std::string>());
  std::vector<std::string> parts;
  if (value.is_array()) {
    for (const Json& part : value) {
      std::string text;
      for (const Json& word : part.is_array() ? part : Json::array({part}))
        text += (text.empty() ? "" : " ") + (word.is_string() ? value_text(strings, word) : "");
      parts.push_back(text);
    }
  }
  return strings.join(parts);
}

}  // namespace

std::optional<std::string> clauses_text(const Strings& strings, const Json& clauses) {
  if (!clauses.is_array() || clauses.empty()) return std::nullopt;
  std::string text;
  for (const Json& clause : clauses) {
    if (!clause.is_object() || !clause.contains("key") || !clause["key"].is_string() ||
        !clause.contains("values") || !clause["values"].is_object())
      return std::nullopt;
    std::map<std::string, std::string> values;
    for (const auto& [name, value] : clause["values"].items())
      values[name] = value_text(strings, value);
    const auto filled = strings.fill("why." + clause["key"].get<std::string>(), values);
    if (!filled) return std::nullopt;
    text += (text.empty() ? "" : strings("clause_separator")) + *filled;
  }
  return text + strings("sentence_end");
}

Json clauses_json(const std::vector<Clause>& clauses) {
  Json result = Json::array();
  for (const Clause& clause : clauses)
    result.push_back({{"key", clause.key}, {"values", clause.values}});
  return result;
}

}  // namespace quench
