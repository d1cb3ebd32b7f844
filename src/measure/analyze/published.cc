#include "measure/analyze/published.h"

#include <charconv>
#include <cmath>

#include "base/file.h"
#include "base/paths.h"

namespace quench {
namespace {

constexpr double kBytesPerGib = 1024.0 * 1024.0 * 1024.0;

// RFC 4180: fields may be quoted, quotes are doubled.
std::vector<std::vector<std::string>> split_csv(std::string_view csv) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false;
  auto end_row = [&] {
    row.push_back(std::move(field));
    field.clear();
    if (row.size() > 1 || !row.front().empty()) rows.push_back(row);
    row.clear();
  };
  for (size_t i = 0; i < csv.size(); ++i) {
    const char c = csv[i];
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < csv.size() && csv[i + 1] == '"') {
        field += csv[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      row.push_back(std::move(field));
      field.clear();
    } else if (c == '\n') {
      end_row();
    } else if (c != '\r') {
      field += c;
    }
  }
  if (!field.empty() || !row.empty()) end_row();
  return rows;
}

std::optional<double> number(const std::string& text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) ||
      value <= 0.0 || value > 1e12)
    return std::nullopt;
  return value;
}

std::optional<int64_t> whole(const std::string& text) {
  const auto value = number(text);
  return value ? std::optional(std::llround(*value)) : std::nullopt;
}

template <class T>
std::optional<T> find(const Json& json, const char* key) {
  return json.contains(key) ? std::optional(json.at(key).get<T>()) : std::nullopt;
}

Anomaly parse_anomaly(const Json& json) {
  Anomaly anomaly;
  anomaly.id = json.at("id");
  anomaly.kind = json.at("kind") == "pathology" ? AnomalyKind::kPathology : AnomalyKind::kOutlier;
  anomaly.is_memory = json.at("what") == "memory";
  const Json& match = json.at("match");
  anomaly.engine = match.value("engine", "");
  anomaly.precision = match.value("precision", "");
  anomaly.model = match.value("model", "");
  anomaly.devices = find<int64_t>(match, "devices");
  anomaly.max_prompt_tokens = find<int64_t>(match, "max_prompt_tokens");
  anomaly.moe = find<bool>(match, "moe");
  anomaly.tied = find<bool>(match, "tied");
  return anomaly;
}

bool applies(const Anomaly& anomaly, const Subject& subject) {
  const ModelConfig& config = subject.shape->config;
  return (anomaly.engine.empty() || anomaly.engine == subject.engine) &&
         (anomaly.precision.empty() || anomaly.precision == subject.precision) &&
         (anomaly.model.empty() || anomaly.model == subject.shape->name) &&
         anomaly.devices.value_or(subject.devices) == subject.devices &&
         anomaly.max_prompt_tokens.value_or(subject.prompt_tokens) >= subject.prompt_tokens &&
         anomaly.moe.value_or(subject.shape->is_moe()) == subject.shape->is_moe() &&
         anomaly.tied.value_or(config.tie_word_embeddings) == config.tie_word_embeddings;
}

}  // namespace

Result<std::vector<PublishedRow>> parse_published(std::string_view csv, const std::string& where) {
  const auto table = split_csv(csv);
  if (table.empty()) return fail(ErrorCode::kInvalidFile, "{}: the file is empty.", where);
  auto column = [&](const std::string& name) -> std::optional<size_t> {
    for (size_t i = 0; i < table.front().size(); ++i) {
      if (table.front()[i] == name) return i;
    }
    return std::nullopt;
  };
  for (const char* name : {"model", "precision", "engine", "gpu", "input_len", "output_len"}) {
    if (!column(name))
      return fail(ErrorCode::kInvalidFile, "{}: the column \"{}\" is missing.", where, name);
  }
  const bool is_normalised = column("generated_tokens_per_s").has_value();
  std::vector<PublishedRow> rows;
  for (size_t i = 1; i < table.size(); ++i) {
    const std::vector<std::string>& fields = table[i];
    if (fields.size() != table.front().size()) {
      return fail(ErrorCode::kInvalidFile, "{}: line {} has {} fields, expected {}.", where, i + 1,
                  fields.size(), table.front().size());
    }
    auto text = [&](const char* name) {
      const auto at = column(name);
      return at ? fields[*at] : std::string();
    };
    PublishedRow row;
    row.source = text("source");
    row.model = text("model");
    row.precision = text("precision");
    row.engine = text("engine");
    row.device = text("gpu");
    row.prompt_tokens = whole(text("input_len")).value_or(0);
    row.output_tokens = whole(text("output_len")).value_or(0);
    row.devices = whole(text("num_gpus")).value_or(1);
    row.batch = column("batch") ? whole(text("batch")) : std::optional<int64_t>(1);
    row.decode_tok_s = number(text(is_normalised ? "generated_tokens_per_s" : "tokens_per_s"));
    if (const auto gib = number(text("gpu_mem_gb"))) row.memory_bytes = *gib * kBytesPerGib;
    row.note = text("note");
    rows.push_back(std::move(row));
  }
  return rows;
}

Result<std::vector<PublishedRow>> load_published() {
  QUENCH_TRY(const std::string path, data_path("hardware/published/qwen_speed.csv"));
  QUENCH_TRY(const std::string text, read_file(path));
  return parse_published(text, path);
}

Result<std::vector<Anomaly>> load_anomalies() {
  QUENCH_TRY(const std::string path, data_path("hardware/published/anomalies.json"));
  QUENCH_TRY(const Json json, read_json_file(path));
  std::vector<Anomaly> all;
  try {
    for (const Json& row : json.at("anomalies")) all.push_back(parse_anomaly(row));
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorCode::kInvalidFile, "{}: {}.", path, e.what());
  }
  return all;
}

std::vector<const Anomaly*> find_anomalies(const std::vector<Anomaly>& all, const Subject& subject,
                                           bool is_memory) {
  std::vector<const Anomaly*> found;
  for (const Anomaly& anomaly : all) {
    if (anomaly.is_memory == is_memory && applies(anomaly, subject)) found.push_back(&anomaly);
  }
  return found;
}

}  // namespace quench
