// The shootout as a page: what to take, the comparison, the trade-off, every run, the loss, the
// machine.
#include <algorithm>
#include <cmath>

#include "measure/report/html.h"
#include "measure/report/lookup.h"
#include "measure/report/shootout_report.h"
#include "measure/statistics.h"

namespace quench {
namespace {

using Values = std::vector<double>;

std::string fixed(double value, int decimals) { return fmt::format("{:.{}f}", value, decimals); }

// How a figure of a run is written: "ms" of seconds under one.
struct Unit {
  std::string name;
  double scale;
  int decimals;
  bool is_time;

  std::string text(double value) const { return fixed(value * scale, decimals); }
};
Unit time_unit(double largest_s) {
  if (largest_s < 1.0) return {"ms", 1e3, 2, true};
  return {"s", 1.0, 2, true};
}

// 2026-01-31T12:34:56Z as people write it.
std::string readable_time(const std::string& utc) {
  if (utc.size() != 20 || utc[10] != 'T' || utc.back() != 'Z') return utc;
  return utc.substr(0, 10) + " " + utc.substr(11, 5) + " UTC";
}

// The runs of one row, of one task or (task "") of all.
Values run_values(const Json& record, const std::string& task, const char* path, bool warmup) {
  Values values;
  for (const Json& runs : list(record, "/tasks")) {
    if (!task.empty() && text(runs, "/task") != task) continue;
    for (const Json& run : list(runs, "/runs")) {
      const auto value = number(run, path);
      if (value && std::isfinite(*value) && (part(run, "/warmup") == Json(true)) == warmup)
        values.push_back(*value);
    }
  }
  return values;
}

class Page {
 public:
  Page(const Json& shootout, const Strings& strings)
      : json_(shootout),
        rows_(shootout["rows"]),
        strings_(strings),
        html_(strings, strings("title", {{"model", model_name()}})) {}

  std::string make() {
    const std::string cpu = text(json_, "/machine/cpu_model");
    html_.paragraph(strings_("html.lead", {{"model", model_name()},
                                           {"count", std::to_string(rows_.size() - 1)},
                                           {"cpu", cpu.empty() ? strings_("unknown_cpu") : cpu},
                                           {"time", readable_time(text(json_, "/time"))}}),
                    "lead");
    if (part(json_, "/complete") == Json(false)) html_.paragraph(strings_("incomplete"), "warning");
    recommendation();
    comparison();
    tradeoff();
    speed();
    latency("html.ttft", "/ttft_s", "/limit_ttft_s");
    latency("html.e2e", "/e2e_s", nullptr);
    loss();
    html_.section(strings_("how"));
    for (const std::string& sentence : measured_how(json_, strings_)) html_.paragraph(sentence);
    machine();
    return html_.page();
  }

 private:
  std::string model_name() const { return text(json_, "/reference/name"); }
  std::string name(size_t row) const {
    return profile_text(strings_, text(rows_[row], "/profile"));
  }
  const Json& record(size_t row) const {
    static const Json kUnknown;
    const Json& records = list(json_, "/records");
    return row < records.size() ? records[row] : kUnknown;
  }
  std::string budget() const {
    const auto budget = number(json_, "/recommendation/rules/kld_budget");
    return budget ? fmt::format("{}", *budget) : "";
  }

  // What a version is and what it costs, one sentence each.
  std::vector<std::string> card_lines(size_t i) const {
    const Json& row = rows_[i];
    const double bytes = *number(row, "/bytes");
    const double reference_bytes = *number(rows_[0], "/bytes");
    std::vector<std::string> lines;
    const std::map<std::string, std::string> size = {
        {"size_mb", fixed(bytes / 1e6, 2)},
        {"reference_mb", fixed(reference_bytes / 1e6, 2)},
        {"saved_percent", fixed(100.0 * (1.0 - bytes / reference_bytes), 1)},
        {"ratio", fixed(reference_bytes / bytes, 2)}};
    lines.push_back(strings_(i == 0 ? "html.card.size_reference" : "html.card.size", size));
    if (const auto speed = number(row, "/decode_tok_s")) {
      const auto reference = number(rows_[0], "/decode_tok_s");
      const bool compares = i > 0 && reference && *reference > 0.0;
      lines.push_back(strings_(
          compares ? "html.card.speed" : "html.card.speed_alone",
          {{"speed", fixed(*speed, 1)}, {"times", compares ? fixed(*speed / *reference, 2) : ""}}));
    }
    const auto kld = number(row, "/kld_mean");
    const auto top = number(row, "/top1_agreement");
    if (i == 0) {
      lines.push_back(strings_("html.card.loss_none"));
    } else if (kld && top) {
      lines.push_back(strings_("html.card.loss",
                               {{"kld", fixed(*kld, 4)}, {"top_percent", fixed(100.0 * *top, 1)}}));
    }
    return lines;
  }

  // One card for each version that is recommended, with every need that it is recommended for.
  void recommendation() {
    html_.section(strings_("recommendation"));
    html_.paragraph(strings_("html.recommendation.note", {{"kld_budget", budget()}}), "note");
    std::vector<HtmlCard> cards;
    std::map<std::string, size_t> card_of;  // by name
    for (const char* need : {"storage", "speed", "balance"}) {
      const std::string profile =
          text(json_, fmt::format("/recommendation/{}/profile", need).c_str());
      const auto [found, is_new] = card_of.emplace(profile, cards.size());
      if (is_new) cards.push_back(card(profile));
      HtmlCard& card = cards[found->second];
      const std::string wants = strings_(fmt::format("html.need.{}", need));
      card.heading += (card.heading.empty() ? "" : " \u00b7 ") + wants;
      card.reasons.push_back({wants, reason_text(json_, need, strings_)});
    }
    for (HtmlCard& card : cards) {
      if (card.reasons.size() == 1) card.reasons[0].first = strings_("html.why");
    }
    html_.cards(cards);
  }

  HtmlCard card(const std::string& profile) const {
    HtmlCard card;
    card.name = strings_("none");
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (text(rows_[i], "/profile") != profile) continue;
      card.name = name(i);
      card.color = static_cast<int>(i);
      card.lines = card_lines(i);
    }
    return card;
  }

  void comparison() {
    html_.section(strings_("html.comparison"));
    const Json& statistics = part(rows_[0], "/statistics/decode_tok_s");
    const auto coverage = number(statistics, "/coverage");
    html_.paragraph(
        coverage && number(statistics, "/count").value_or(0) > 1
            ? strings_("html.comparison.note", {{"coverage", fixed(100.0 * *coverage, 1)}})
            : strings_("html.comparison.note_no_interval"),
        "note");
    const Table table = shootout_table(json_, strings_);
    html_.table(table);
    std::vector<std::pair<std::string, std::string>> terms;
    for (const TableColumn& column : table.columns)
      terms.emplace_back(column.title, strings_("html.term." + column.key));
    html_.paragraph(strings_("html.terms"), "note");
    html_.terms(terms);
  }

  void tradeoff() {
    Json points = Json::array();
    for (size_t i = 0; i < rows_.size(); ++i) {
      const auto kld = number(rows_[i], "/kld_mean");
      if (!kld) continue;
      const double size_mb = *number(rows_[i], "/bytes") / 1e6;
      const auto speed = number(rows_[i], "/decode_tok_s");
      const std::string speed_text = speed ? fixed(*speed, 1) + " tok/s" : "";
      points.push_back({{"label", name(i)},
                        {"color", i},
                        {"x", size_mb},
                        {"y", *kld},
                        {"speed", speed ? Json(*speed) : Json()},
                        {"speed_text", speed_text},
                        {"text", fmt::format("{}: {:.2f} MB, {:.4f} nats, {}", name(i), size_mb,
                                             *kld, speed_text)}});
    }
    if (points.empty()) return;
    const auto limit = number(json_, "/recommendation/rules/kld_budget");
    html_.section(strings_("html.tradeoff"));
    html_.paragraph(limit ? strings_("html.tradeoff.note", {{"kld_budget", budget()}})
                          : strings_("html.tradeoff.note_no_budget"),
                    "note");
    const Json panel = {{"points", points},
                        {"x_title", strings_("html.axis.size")},
                        {"y_title", strings_("html.axis.loss")},
                        {"budget", limit ? Json(*limit) : Json()},
                        {"budget_text", strings_("html.budget", {{"kld_budget", budget()}})}};
    Table numbers = shootout_table(json_, strings_);
    keep_columns(numbers, {"profile", "bytes", "saved_fraction", "kld_mean", "decode_tok_s"});
    html_.figure({{"kind", "plane"}, {"panels", Json::array({panel})}}, numbers,
                 strings_("html.tradeoff"));
  }

  static void keep_columns(Table& table, const std::vector<std::string>& keys) {
    Table kept;
    kept.rows.resize(table.rows.size());
    for (size_t c = 0; c < table.columns.size(); ++c) {
      if (std::find(keys.begin(), keys.end(), table.columns[c].key) == keys.end()) continue;
      kept.columns.push_back(table.columns[c]);
      for (size_t r = 0; r < table.rows.size(); ++r) kept.rows[r].push_back(table.rows[r][c]);
    }
    table = std::move(kept);
  }

  // One strip of a chart and one row of its table: all runs of a row on a task ("": on all).
  void add_strip(size_t i, const std::string& task, const char* path, const char* limit_path,
                 const Unit& unit, Json& panel, Table& table) {
    const Values values = run_values(record(i), task, path, false);
    if (values.empty()) return;
    const Summary summary = summarize(values);
    coverage_ = summary.interval.coverage;
    const Values limits =
        limit_path != nullptr ? run_values(record(i), task, limit_path, false) : Values();
    auto scaled = [&](const Values& list) {
      Json result = Json::array();
      for (const double value : list) result.push_back(value * unit.scale);
      return result;
    };
    auto texts = [&](const Values& list) {
      std::vector<std::string> result;
      for (const double value : list) result.push_back(unit.text(value));
      return result;
    };
    Json strip = {{"label", name(i)},
                  {"color", i},
                  {"values", scaled(values)},
                  {"shown", texts(values)},
                  {"mid", summary.median * unit.scale},
                  {"mid_shown", unit.text(summary.median)},
                  {"low", summary.interval.low * unit.scale},
                  {"high", summary.interval.high * unit.scale}};
    std::vector<Cell> cells = {text_cell(name(i))};
    if (!task.empty()) cells.insert(cells.begin(), text_cell(name_text(strings_, task)));
    for (const double value : {summary.median, summary.interval.low, summary.interval.high})
      cells.push_back(number_cell(value, unit.decimals, unit.scale));
    if (limit_path != nullptr && has_limits(limit_path)) {
      const auto limit = limits.empty() ? std::nullopt : std::optional(median(limits));
      cells.push_back(number_cell(limit, unit.decimals, unit.scale));
      if (limit) {
        strip["limit"] = *limit * unit.scale;
        strip["limit_shown"] = unit.text(*limit);
      }
      // A speed is a share of its limit, a time the other way round.
      cells.push_back(
          limit && summary.median > 0.0
              ? number_cell(unit.is_time ? *limit / summary.median : summary.median / *limit, 1,
                            100.0)
              : Cell{});
    }
    cells.push_back(text_cell(strings_.join(texts(values))));
    cells.push_back(text_cell(strings_.join(texts(run_values(record(i), task, path, true)))));
    panel["rows"].push_back(std::move(strip));
    table.rows.push_back(std::move(cells));
  }

  std::map<std::string, std::string> coverage() const {
    return {{"coverage", fixed(100.0 * coverage_, 1)}};
  }

  bool has_limits(const char* path) const {
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (!run_values(record(i), "", path, false).empty()) return true;
    }
    return false;
  }

  Table strip_table(const Unit& unit, bool by_task, const char* limit_path) const {
    Table table;
    const std::map<std::string, std::string> values = {{"unit", unit.name}};
    auto add = [&](const char* key, Align align = Align::kRight) {
      table.columns.push_back({key, strings_(std::string("column.") + key, values), align});
    };
    if (by_task) add("task", Align::kLeft);
    add("profile", Align::kLeft);
    for (const char* key : {"median", "low", "high"}) add(key);
    if (limit_path != nullptr && has_limits(limit_path)) {
      add("limit");
      add("share");
    }
    add("values", Align::kLeft);
    add("warmups", Align::kLeft);
    return table;
  }

  void speed() {
    constexpr const char* kLimit = "/limit_decode_tok_s";
    const Unit unit = {strings_("html.axis.speed"), 1.0, 1, false};
    Json panel = {{"title", ""}, {"rows", Json::array()}};
    Table table = strip_table(unit, false, kLimit);
    for (size_t i = 0; i < rows_.size(); ++i)
      add_strip(i, "", "/decode_tok_s", kLimit, unit, panel, table);
    if (panel["rows"].empty()) return;
    html_.section(strings_("html.speed"));
    html_.paragraph(strings_("html.speed.note", coverage()), "note");
    if (has_limits(kLimit)) html_.paragraph(strings_("html.speed.limit"), "note");
    html_.figure({{"kind", "strips"}, {"unit", unit.name}, {"panels", Json::array({panel})}}, table,
                 strings_("html.speed"));
  }

  void latency(const std::string& key, const char* path, const char* limit_path) {
    double largest_s = 0.0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      for (const double value : run_values(record(i), "", path, false))
        largest_s = std::max(largest_s, value);
    }
    const Unit unit = time_unit(largest_s);
    Json panels = Json::array();
    Table table = strip_table(unit, true, limit_path);
    for (const Json& task : list(record(0), "/tasks")) {
      const std::string task_name = text(task, "/task");
      Json panel = {{"title", name_text(strings_, task_name)}, {"rows", Json::array()}};
      for (size_t i = 0; i < rows_.size(); ++i)
        add_strip(i, task_name, path, limit_path, unit, panel, table);
      if (!panel["rows"].empty()) panels.push_back(std::move(panel));
    }
    if (panels.empty()) return;
    html_.section(strings_(key));
    html_.paragraph(strings_(key + ".note", coverage()), "note");
    html_.figure({{"kind", "strips"}, {"unit", unit.name}, {"panels", panels}}, table,
                 strings_(key));
  }

  void loss() {
    const Json& evaluations = list(json_, "/evaluations");
    std::vector<std::string> domains;
    if (!evaluations.empty()) {
      for (const Json& scores : list(evaluations[0], "/domains"))
        domains.push_back(text(scores, "/domain"));
    }
    Json panels = Json::array();
    for (const std::string& domain : domains) {
      Json panel = {{"title", name_text(strings_, domain)}, {"rows", Json::array()}};
      for (size_t i = 1; i < std::min(rows_.size(), evaluations.size()); ++i) {
        for (const Json& scores : list(evaluations[i], "/domains")) {
          const auto mean = number(scores, "/kld/mean");
          if (text(scores, "/domain") != domain || !mean) continue;
          panel["rows"].push_back({{"label", name(i)},
                                   {"color", i},
                                   {"values", Json::array({*mean})},
                                   {"shown", Json::array({fixed(*mean, 4)})},
                                   {"mid", nullptr},
                                   {"low", part(scores, "/kld/ci95/0")},
                                   {"high", part(scores, "/kld/ci95/1")}});
        }
      }
      if (!panel["rows"].empty()) panels.push_back(std::move(panel));
    }
    if (panels.empty()) return;
    html_.section(strings_("loss_by_domain"));
    html_.paragraph(strings_("html.domain.note"), "note");
    html_.figure({{"kind", "strips"}, {"unit", "nats"}, {"panels", panels}},
                 domain_table(json_, strings_), strings_("loss_by_domain"));
  }

  void machine() {
    html_.section(strings_("html.machine"));
    std::vector<std::pair<std::string, std::string>> facts;
    auto add = [&](const char* key, const std::string& value) {
      if (!value.empty()) facts.emplace_back(strings_(std::string("html.fact.") + key), value);
    };
    auto count = [&](const char* path) {
      const auto value = number(json_, path);
      return value ? fmt::format("{:.0f}", *value) : "";
    };
    add("cpu", text(json_, "/machine/cpu_model"));
    add("cpus", count("/machine/cpus"));
    if (const auto bytes = number(json_, "/machine/memory_bytes"))
      add("memory", strings_("html.gb", {{"gb", fixed(*bytes / 1e9, 1)}}));
    add("device", text(record(0), "/settings/device") + " " + text(record(0), "/build/isa"));
    add("threads", count("/records/0/settings/threads"));
    add("model", fmt::format("{}, {}", model_name(), text(json_, "/reference/family")));
    add("parameters", count("/reference/parameters"));
    add("sha256", text(json_, "/reference/sha256"));
    for (size_t i = 0; i < rows_.size(); ++i) {
      std::vector<std::string> kernels;
      for (const Json& kernel : list(record(i), "/kernels")) {
        if (kernel.is_string()) kernels.push_back(kernel.get<std::string>());
      }
      if (!kernels.empty())
        facts.emplace_back(strings_("html.fact.kernels") + strings_("name_separator") + name(i),
                           strings_.join(kernels));
    }
    add("commit", text(json_, "/build/commit"));
    add("time", text(json_, "/time"));
    add("id", text(json_, "/id"));
    html_.terms(facts);
  }

  const Json& json_;
  const Json& rows_;
  const Strings& strings_;
  HtmlReport html_;
  double coverage_ = 0.0;  // of the last strip's interval
};

}  // namespace

std::string shootout_html(const Json& shootout, const Strings& strings) {
  return Page(shootout, strings).make();
}

}  // namespace quench
