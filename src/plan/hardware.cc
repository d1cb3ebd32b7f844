#include "plan/hardware.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>

#include "base/letters.h"
#include "base/paths.h"

namespace quench {
namespace {

constexpr const char* kRequired[] = {"bf16_tflops", "memory_gb", "memory_gb_s", "tdp_w"};

std::string text_or_empty(const Json& json, const char* key) {
  const auto value = json.find(key);
  return value != json.end() && value->is_string() ? value->get<std::string>() : std::string();
}

Result<HardwareValue> parse_value(const Json& json, const std::string& where) {
  if (!json.is_object() || !json.contains("value") || !json["value"].is_number() ||
      text_or_empty(json, "source").empty() || text_or_empty(json, "date").empty()) {
    return fail(ErrorCode::kInvalidFile,
                "{}: expected a \"value\" (a number), its \"source\" and \"date\", found {}.",
                where, json.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  HardwareValue value = {json["value"].get<double>(), json["source"], json["date"]};
  if (!std::isfinite(value.value) || value.value <= 0.0) {
    return fail(ErrorCode::kInvalidFile, "{}: must be positive, found {}.", where, value.value);
  }
  return value;
}

}  // namespace

std::optional<double> Hardware::find(const std::string& key) const {
  const auto entry = values.find(key);
  return entry == values.end() ? std::nullopt : std::optional(entry->second.value);
}

double Hardware::memory_bytes() const {
  return at("memory_gb") * (kind == "gpu" || kind == "npu" ? 1024.0 * 1024.0 * 1024.0 : 1e9);
}

bool Hardware::same_silicon(const Hardware& other) const {
  return at("memory_gb_s") == other.at("memory_gb_s") &&
         at("bf16_tflops") == other.at("bf16_tflops");
}

Result<Hardware> parse_hardware(const Json& json, const std::string& where) {
  if (!json.is_object() || text_or_empty(json, "name").empty() || !json.contains("values") ||
      !json["values"].is_object()) {
    return fail(ErrorCode::kInvalidFile, "{}: a device needs a \"name\" and \"values\".", where);
  }
  Hardware hardware;
  hardware.name = json["name"];
  hardware.vendor = text_or_empty(json, "vendor");
  hardware.kind = text_or_empty(json, "kind");
  hardware.architecture = text_or_empty(json, "architecture");
  hardware.notes = text_or_empty(json, "notes");
  if (json.contains("aliases") && json["aliases"].is_array()) {
    for (const Json& alias : json["aliases"]) {
      if (alias.is_string()) hardware.aliases.push_back(alias);
    }
  }
  for (const auto& [key, value] : json["values"].items()) {
    QUENCH_TRY(hardware.values[key], parse_value(value, fmt::format("{}: \"{}\"", where, key)));
  }
  for (const char* key : kRequired) {
    if (!hardware.values.contains(key))
      return fail(ErrorCode::kInvalidFile, "{}: a device needs the value \"{}\".", where, key);
  }
  return hardware;
}

Result<std::vector<Hardware>> all_hardware() {
  QUENCH_TRY(const std::string folder, data_path("hardware"));
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  std::vector<Hardware> all;
  for (const std::string& file : files) {
    QUENCH_TRY(const Json json, read_json_file(file));
    if (!json.is_object() || !json.contains("values")) continue;
    QUENCH_TRY(Hardware hardware, parse_hardware(json, file));
    all.push_back(std::move(hardware));
  }
  return all;
}

std::string plain_name(const std::string& name) {
  std::string plain;
  for (const char c : small_letters(name)) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) plain += c;
  }
  return plain;
}

Result<Hardware> find_hardware(const std::string& name) {
  QUENCH_TRY(const std::vector<Hardware> all, all_hardware());
  std::string wanted = plain_name(name);
  if (wanted.starts_with("nvidia")) wanted = wanted.substr(6);
  std::vector<std::string> similar;
  for (const Hardware& hardware : all) {
    std::vector<std::string> names = hardware.aliases;
    names.push_back(hardware.name);
    for (const std::string& candidate : names) {
      if (plain_name(candidate) == wanted) return hardware;
    }
    if (!wanted.empty() && plain_name(hardware.name).find(wanted) != std::string::npos)
      similar.push_back(hardware.name);
  }
  if (similar.empty()) {
    return fail(ErrorCode::kNotFound,
                "There is no device \"{}\" in hardware/; `quench list hardware` prints those that "
                "are, and a JSON file beside them adds one.",
                name);
  }
  return fail(ErrorCode::kNotFound, "There is no device \"{}\" in hardware/; similar are {}.", name,
              fmt::join(similar, ", "));
}

Hardware this_hardware(const Ceilings& ceilings, double memory_bytes, int64_t working_set_bytes,
                       double power_w) {
  Hardware hardware;
  hardware.name = kThisMachine;
  hardware.kind = "cpu";
  hardware.architecture = fmt::format("{}, {}", ceilings.cpu_model, ceilings.isa);
  const std::string source = fmt::format("measured, {} threads", ceilings.threads);
  auto set = [&](const char* key, double value) { hardware.values[key] = {value, source, ""}; };
  set("bf16_tflops", ceilings.bf16_gflop_s.best / 1e3);
  set("int8_tops", ceilings.int8_gop_s.best / 1e3);
  set("memory_gb", memory_bytes / 1e9);
  set("memory_gb_s", ceilings.for_working_set(working_set_bytes).read_gb_s.best);
  hardware.values["tdp_w"] = {power_w, "given, not measured", ""};
  return hardware;
}

}  // namespace quench
