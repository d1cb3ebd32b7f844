#include "measure/analyze/accuracy.h"

#include <cmath>
#include <map>
#include <set>
#include <tuple>

namespace quench {
namespace {

constexpr int64_t kManyModels = 5;

struct Group {
  std::vector<const Predictor::Row*> rows;
  std::set<std::string> models;
};
using Key = std::tuple<bool, std::string, std::string, std::string, std::string, std::string>;

// What a row is judged as. Anomalies are judged too, and kept apart.
std::string kind_of(const Predictor::Row& row, bool is_memory) {
  if (is_memory ? row.is_memory_anomaly : row.is_outlier || row.is_pathology) return "anomaly";
  if (row.setup.shape.is_moe()) return "experts";
  if (row.published.devices != 1) return "devices";
  if (row.published.batch != 1) return "batch";
  return row.published.prompt_tokens > 1 ? "prompt" : "plain";
}

double measured(const Predictor::Row& row, bool is_memory) {
  return is_memory ? *row.published.memory_bytes : *row.published.decode_tok_s;
}

}  // namespace

std::vector<AccuracyGroup> leave_one_model_out(const Predictor& predictor) {
  std::map<Key, Group> groups;
  for (const bool is_memory : {false, true}) {
    for (const Predictor::Row& row : predictor.rows()) {
      const PublishedRow& published = row.published;
      if (is_memory ? !published.memory_bytes : !published.decode_tok_s) continue;
      if (!published.batch || published.prompt_tokens < 1 || published.output_tokens < 2) continue;
      Group& group =
          groups[{is_memory, published.source, published.engine, row.setup.precision.name,
                  row.setup.device.name, kind_of(row, is_memory)}];
      group.rows.push_back(&row);
      group.models.insert(row.setup.shape.name);
    }
  }
  std::map<std::tuple<std::string, std::string, std::string, std::string, std::string>,
           PredictorFit>
      known;
  std::vector<AccuracyGroup> result;
  for (const auto& [key, group] : groups) {
    const auto& [is_memory, source, engine, precision, device, kind] = key;
    AccuracyGroup out = {source, engine, precision, device, kind, is_memory};
    out.num_models = static_cast<int64_t>(group.models.size());
    if (kind == "plain" && out.num_models < kManyModels) out.kind = "few models";
    out.num_rows = static_cast<int64_t>(group.rows.size());
    for (const Predictor::Row* row : group.rows) {
      const std::string& left_out = row->setup.shape.name;
      const auto [entry, is_new] =
          known.try_emplace({source, engine, precision, device, left_out}, PredictorFit());
      if (is_new)
        entry->second = predictor.calibrate(row->setup, engine, {false, left_out, source});
      const Prediction prediction = Predictor::predict(row->setup, entry->second);
      const Interval& expected = is_memory ? prediction.memory_bytes : prediction.decode_tok_s;
      const double value = measured(*row, is_memory);
      const double error = std::fabs(value / expected.value - 1.0);
      out.mean_error += error / static_cast<double>(group.rows.size());
      if (value >= expected.low && value <= expected.high)
        out.inside += 1.0 / static_cast<double>(group.rows.size());
      if (error >= out.max_error) {
        out.max_error = error;
        out.worst = row->setup.shape.name;
      }
    }
    result.push_back(std::move(out));
  }
  return result;
}

Table accuracy_table(const std::vector<AccuracyGroup>& groups, const Strings& strings) {
  Table table;
  for (const char* key : {"of", "kind", "engine", "precision", "device", "models", "count",
                          "mean_error", "max_error", "inside", "worst"}) {
    const std::string_view name = key;
    const bool is_number = name == "models" || name == "count" || name == "mean_error" ||
                           name == "max_error" || name == "inside";
    table.columns.push_back({key, strings(fmt::format("plan.accuracy.{}", key)),
                             is_number ? Align::kRight : Align::kLeft});
  }
  // What people read, and what machines do.
  auto named = [&](const char* prefix, const std::string& name) {
    return Cell{strings(prefix + name), name};
  };
  for (const AccuracyGroup& group : groups) {
    table.rows.push_back({named("plan.accuracy.of.", group.is_memory ? "memory" : "speed"),
                          named("plan.accuracy.kind.", group.kind), text_cell(group.engine),
                          text_cell(group.precision), text_cell(group.device),
                          number_cell(static_cast<double>(group.num_models), 0),
                          number_cell(static_cast<double>(group.num_rows), 0),
                          number_cell(group.mean_error, 1, 100.0),
                          number_cell(group.max_error, 1, 100.0),
                          number_cell(group.inside, 0, 100.0), text_cell(group.worst)});
  }
  return table;
}

}  // namespace quench
