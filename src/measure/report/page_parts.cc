#include "measure/report/page_parts.h"

#include <algorithm>
#include <cmath>

#include "measure/report/lookup.h"
#include "measure/statistics.h"

namespace quench {
namespace {

using Numbers = std::vector<double>;

bool has_panels(const StripChart& chart) {
  return std::any_of(chart.strips.begin(), chart.strips.end(),
                     [](const Strip& strip) { return !strip.panel.empty(); });
}

bool has_limit_column(const StripChart& chart) {
  return std::any_of(chart.strips.begin(), chart.strips.end(),
                     [](const Strip& strip) { return !strip.limits.empty(); });
}

Json scaled(const Numbers& values, const Unit& unit) {
  Json result = Json::array();
  for (const double value : values) result.push_back(value * unit.scale);
  return result;
}

std::vector<std::string> unit_texts(const Numbers& values, const Unit& unit) {
  std::vector<std::string> result;
  for (const double value : values) result.push_back(unit.text(value));
  return result;
}

Table strip_table(const Strings& strings, const StripChart& chart) {
  Table table;
  const std::map<std::string, std::string> values = {{"unit", chart.unit.name}};
  auto add = [&](const std::string& key, Align align = Align::kRight) {
    table.columns.push_back({key, strings("column." + key, values), align});
  };
  if (has_panels(chart)) add("task", Align::kLeft);
  add(chart.label_column, Align::kLeft);
  for (const char* key : {"median", "low", "high"}) add(key);
  if (has_limit_column(chart)) {
    add("limit");
    add("share");
  }
  add("values", Align::kLeft);
  add("warmups", Align::kLeft);
  return table;
}

std::vector<Cell> strip_cells(const Strings& strings, const StripChart& chart, const Strip& strip,
                              const Summary& summary, std::optional<double> limit) {
  const Unit& unit = chart.unit;
  std::vector<Cell> cells;
  if (has_panels(chart)) cells.push_back(text_cell(strip.panel));
  cells.push_back(text_cell(strip.label));
  for (const double value : {summary.median, summary.interval.low, summary.interval.high})
    cells.push_back(number_cell(value, unit.decimals, unit.scale));
  if (has_limit_column(chart)) {
    cells.push_back(number_cell(limit, unit.decimals, unit.scale));
    // A speed is a share of its limit, a time the other way round.
    cells.push_back(
        limit && summary.median > 0.0
            ? number_cell(unit.is_time ? *limit / summary.median : summary.median / *limit, 1,
                          100.0)
            : Cell{});
  }
  cells.push_back(text_cell(strings.join(unit_texts(strip.values, unit))));
  cells.push_back(strip.warmups.empty() ? Cell{}
                                        : text_cell(strings.join(unit_texts(strip.warmups, unit))));
  return cells;
}

}  // namespace

int decimals_for(double value) {
  return value >= 100.0 ? 0 : value >= 10.0 ? 1 : value >= 1.0 ? 2 : 3;
}

std::string readable_time(const std::string& utc) {
  if (utc.size() != 20 || utc[10] != 'T' || utc.back() != 'Z') return utc;
  return utc.substr(0, 10) + " " + utc.substr(11, 5) + " UTC";
}

Unit time_unit(double largest_s) {
  if (largest_s < 1.0) return {"ms", 1e3, 2, true};
  return {"s", 1.0, 2, true};
}

Numbers run_values(const Json& record, const std::string& task, const char* path, bool warmup) {
  Numbers values;
  for (const Json& runs : list(record, "/tasks")) {
    if (!task.empty() && text(runs, "/task") != task) continue;
    for (const Json& run : list(runs, "/runs")) {
      const auto value = number(run, path);
      // A run that failed has times of what came until then.
      const bool failed = part(run, "/error").is_string();
      if (value && std::isfinite(*value) && !failed &&
          (part(run, "/warmup") == Json(true)) == warmup)
        values.push_back(*value);
    }
  }
  return values;
}

Strip record_strip(const Json& record, const std::string& task, const char* path,
                   const char* limit_path) {
  Strip strip;
  strip.values = run_values(record, task, path, false);
  strip.warmups = run_values(record, task, path, true);
  if (limit_path != nullptr) strip.limits = run_values(record, task, limit_path, false);
  return strip;
}

void add_strips(HtmlReport& html, const Strings& strings, const StripChart& chart) {
  const Unit& unit = chart.unit;
  Json panels = Json::array();
  Table table = strip_table(strings, chart);
  double coverage = 0.0;
  for (const Strip& strip : chart.strips) {
    if (strip.values.empty()) continue;
    const Summary summary = summarize(strip.values);
    coverage = summary.interval.coverage;
    Json row = {{"label", strip.label},
                {"color", strip.color},
                {"values", scaled(strip.values, unit)},
                {"shown", unit_texts(strip.values, unit)},
                {"mid", summary.median * unit.scale},
                {"mid_shown", unit.text(summary.median)},
                {"low", summary.interval.low * unit.scale},
                {"high", summary.interval.high * unit.scale}};
    const auto limit = strip.limits.empty() ? std::nullopt : std::optional(median(strip.limits));
    if (limit) {
      row["limit"] = *limit * unit.scale;
      row["limit_shown"] = unit.text(*limit);
    }
    table.rows.push_back(strip_cells(strings, chart, strip, summary, limit));
    const bool is_new = panels.empty() || panels.back()["title"] != strip.panel;
    if (is_new) panels.push_back({{"title", strip.panel}, {"rows", Json::array()}});
    panels.back()["rows"].push_back(std::move(row));
  }
  if (panels.empty()) return;
  html.section(strings(chart.key));
  html.paragraph(strings(chart.key + ".note", {{"coverage", fixed(100.0 * coverage, 1)}}), "note");
  if (has_limit_column(chart) && !chart.limit_note.empty())
    html.paragraph(strings(chart.limit_note), "note");
  html.figure({{"kind", "strips"}, {"unit", unit.name}, {"panels", panels}}, table,
              strings(chart.key));
}

Facts machine_facts(const Strings& strings, const Json& json, const Json& record,
                    const Json& model) {
  Facts facts;
  auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) facts.emplace_back(strings(std::string("html.fact.") + key), value);
  };
  auto count = [](const Json& from, const char* path) {
    const auto value = number(from, path);
    return value ? fmt::format("{:.0f}", *value) : "";
  };
  auto both = [](const std::string& a, const std::string& b, const char* between) {
    return a.empty() || b.empty() ? a + b : a + between + b;
  };
  add("cpu", text(json, "/machine/cpu_model"));
  add("cpus", count(json, "/machine/cpus"));
  if (const auto bytes = number(json, "/machine/memory_bytes"))
    add("memory", strings("html.gb", {{"gb", fixed(*bytes / 1e9, 1)}}));
  add("device", both(text(record, "/settings/device"), text(record, "/build/isa"), " "));
  add("threads", count(record, "/settings/threads"));
  add("model", both(text(model, "/name"), text(model, "/family"), ", "));
  add("parameters", count(model, "/parameters"));
  add("sha256", text(model, "/sha256"));
  add("commit", text(json, "/build/commit"));
  add("time", text(json, "/time"));
  add("id", text(json, "/id"));
  return facts;
}

void add_kernels(const Strings& strings, const Json& record, const std::string& name,
                 Facts& facts) {
  std::vector<std::string> kernels;
  for (const Json& kernel : list(record, "/kernels")) {
    if (kernel.is_string()) kernels.push_back(kernel.get<std::string>());
  }
  if (kernels.empty()) return;
  const std::string term = strings("html.fact.kernels");
  facts.emplace_back(name.empty() ? term : term + strings("name_separator") + name,
                     strings.join(kernels));
}

}  // namespace quench
