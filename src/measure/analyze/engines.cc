#include "measure/analyze/engines.h"

#include <fmt/ranges.h>

#include "base/letters.h"
#include "base/paths.h"
#include "formats/format.h"
#include "plan/hardware.h"

namespace quench {
namespace {

constexpr std::pair<StepConstant, const char*> kNames[] = {{kHostPerLayer, "host_s_per_layer"},
                                                           {kGapPerLayer, "gap_s_per_layer"},
                                                           {kStep, "step_s"},
                                                           {kKvFactor, "kv_factor"},
                                                           {kPrefillShare, "prefill_share"},
                                                           {kExpert, "expert_s"},
                                                           {kCollective, "collective_s"}};

std::vector<std::string> strings(const Json& json) { return json.get<std::vector<std::string>>(); }

// The file ships with the program, so a missing field is an exception here and one error at load().
Engines parse(const Json& json) {
  Engines all;
  for (const Json& row : json.at("engines"))
    all.engines.push_back({row.at("name"), strings(row.at("aliases")), row.at("kind"),
                           row.value("step_tokens", int64_t{0})});
  for (const auto& [kind, row] : json.at("kinds").items()) {
    StepPrior prior;
    for (const auto& [constant, name] : kNames) {
      prior.value[constant] = row.at(name).at(0);
      prior.log_sd[constant] = row.at(name).at(1);
    }
    all.kinds[kind] = prior;
  }
  for (const Json& row : json.at("precisions")) {
    Precision precision;
    precision.name = row.at("name");
    precision.aliases = strings(row.at("aliases"));
    precision.weight_bits = row.at("weight_bits");
    precision.head_bits = row.value("head_bits", 16.0);
    precision.peak = row.at("peak");
    precision.peak_factor = row.value("peak_factor", 1.0);
    precision.separate_head = row.value("separate_head", false);
    for (const auto& [kind, value] : row.at("efficiency").items())
      precision.efficiency[kind] = {value.at(0).get<double>(), value.at(1).get<double>()};
    all.precisions.push_back(std::move(precision));
  }
  return all;
}

template <class Row>
bool is_called(const Row& row, const std::string& plain) {
  if (plain_name(row.name) == plain) return true;
  for (const std::string& alias : row.aliases) {
    if (plain_name(alias) == plain) return true;
  }
  return false;
}

}  // namespace

Result<Engines> Engines::load() {
  QUENCH_TRY(const std::string path, data_path("hardware/engines.json"));
  QUENCH_TRY(const Json json, read_json_file(path));
  try {
    return parse(json);
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorCode::kInvalidFile, "{}: {}.", path, e.what());
  }
}

Result<EngineRow> Engines::engine(const std::string& name) const {
  const std::string plain = plain_name(name);
  std::vector<std::string> known;
  for (const EngineRow& row : engines) {
    std::vector<std::string> names = row.aliases;
    names.push_back(row.name);
    for (const std::string& candidate : names) {
      if (plain.starts_with(plain_name(candidate))) return row;
    }
    known.push_back(row.name);
  }
  return fail(ErrorCode::kInvalidArgument, "Unknown engine \"{}\"; known are {}.", name,
              fmt::join(known, ", "));
}

Result<Precision> Engines::precision(const std::string& name) const {
  const std::string plain = plain_name(name);
  std::vector<std::string> known;
  for (const Precision& row : precisions) {
    if (is_called(row, plain)) return row;
    known.push_back(row.name);
  }
  const Format* format = find_format(small_letters(name));
  if (format == nullptr) {
    return fail(ErrorCode::kInvalidArgument,
                "Unknown precision \"{}\"; known are {}, and quench's own formats.", name,
                fmt::join(known, ", "));
  }
  // A format of ours: bits of a large matrix, everything else as the 4-bit kernels have it.
  Precision precision = precisions.front();
  if (format->bits < 16) {
    QUENCH_TRY(precision, this->precision("gptq-int4"));
  }
  precision.name = format->name;
  precision.aliases.clear();
  precision.weight_bits = format->bits_per_weight(4096, 4096);
  precision.head_bits = precision.weight_bits;
  return precision;
}

StepPrior Engines::prior(const std::string& kind, const Precision& precision) const {
  StepPrior prior = kinds.at(kind);
  const auto& [value, log_sd] = precision.efficiency.at(kind);
  prior.value[kEfficiency] = value;
  prior.log_sd[kEfficiency] = log_sd;
  return prior;
}

}  // namespace quench
