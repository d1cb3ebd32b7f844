#include "measure/report/compare_html.h"

#include <algorithm>

#include "measure/analyze/compare.h"
#include "measure/report/lookup.h"
#include "measure/report/page_parts.h"
#include "measure/report/shootout_report.h"

namespace quench {
namespace {

struct ComparedMetric {
  const char* name;  // in the rows
  const char* path;  // in a run; null: is not one of a run
  bool is_time;
};
constexpr ComparedMetric kCompared[] = {{"decode_tok_s", "/decode_tok_s", false},
                                        {"ttft_s", "/ttft_s", true},
                                        {"e2e_s", "/e2e_s", true},
                                        {"e2e_equal_length_s", nullptr, true}};

class ComparePage {
 public:
  ComparePage(const Json& comparison, const Json& a, const Json& b, const Strings& strings)
      : json_(comparison),
        sides_{&a, &b},
        strings_(strings),
        html_(strings, strings("compare.title")) {}

  std::string make() {
    html_.paragraph(strings_("html.compare.lead"), "lead");
    html_.terms({{"A", side_text("/a", *sides_[0])}, {"B", side_text("/b", *sides_[1])}});
    for (const std::string& remark : sentences("/remarks", "/remark_clauses"))
      html_.paragraph(remark, "warning");
    verdict();
    speedups();
    live_runs();
    for (const ComparedMetric& metric : kCompared) runs(metric);
    causes();
    cost();
    live_machine();
    machines();
    return html_.page();
  }

 private:
  // In the language of the page; of a file of an earlier version as it stands there.
  std::vector<std::string> sentences(const char* texts, const char* clauses) const {
    std::vector<std::string> result;
    const Json& sentences = list(json_, clauses);
    size_t i = 0;
    for (const Json& text : list(json_, texts)) {
      const Json& clause = i < sentences.size() ? sentences[i] : text;
      if (text.is_string())
        result.push_back(compare_sentence(strings_, clause, text.get<std::string>()));
      ++i;
    }
    return result;
  }

  // Its name with what tells two of the same name apart: label, threads, time.
  std::string side_text(const char* path, const Json& record) const {
    std::vector<std::string> parts = {text(json_, path)};
    if (const std::string label = text(record, "/label"); !label.empty()) parts.push_back(label);
    if (const auto threads = number(record, "/settings/threads"))
      parts.push_back(strings_("html.fact.threads") + " " + fixed(*threads, 0));
    if (const std::string time = text(record, "/time"); !time.empty())
      parts.push_back(readable_time(time));
    return strings_.join(parts);
  }

  std::string task_text(const Json& row) const {
    const std::string task = text(row, "/task");
    if (task == "all") return strings_("compare.all");
    // "chat/en": the task and the language of its prompts.
    const size_t slash = task.find('/');
    if (slash == std::string::npos) return name_text(strings_, task);
    const std::string lang = task.substr(slash + 1);
    return name_text(strings_, task.substr(0, slash)) + " / " +
           strings_.fill("lang." + lang, {}).value_or(lang);
  }

  std::string metric_text(const std::string& metric) const {
    return strings_.fill("compare." + metric, {}).value_or(metric);
  }

  std::string verdict_text(const Json& row) const {
    const std::string verdict = text(row, "/verdict");
    return strings_.fill("compare.verdict." + verdict, {}).value_or(verdict);
  }

  TableColumn column(const char* key, bool is_text = false) const {
    return {key, strings_(std::string("compare.column.") + key),
            is_text ? Align::kLeft : Align::kRight};
  }

  // The rows of all tasks together, or of the only one: a sentence each.
  void verdict() {
    html_.section(strings_("html.result"));
    const Json& rows = list(json_, "/rows");
    for (const ComparedMetric& metric : kCompared) {
      const Json* found = nullptr;
      for (const Json& row : rows) {
        if (text(row, "/metric") != metric.name) continue;
        if (found == nullptr || text(row, "/task") == "all") found = &row;
      }
      if (found == nullptr) continue;
      const double speedup = number(*found, "/speedup").value_or(1.0);
      const bool is_called = text(*found, "/verdict") != "cannot tell";
      html_.paragraph(strings_(is_called ? "html.compare.called" : "html.compare.not_called",
                               {{"metric", metric_text(metric.name)},
                                {"tasks", task_text(*found)},
                                {"verdict", verdict_text(*found)},
                                {"speedup", fixed(speedup, 2)},
                                {"low", fixed(number(*found, "/low").value_or(0.0), 2)},
                                {"high", fixed(number(*found, "/high").value_or(0.0), 2)}}));
    }
    html_.table(table());
    html_.paragraph(
        strings_("html.compare.note",
                 {{"alpha_percent",
                   fmt::format("{:.3g}", 100.0 * number(json_, "/alpha").value_or(0.0))},
                  {"runs_needed", fixed(number(json_, "/runs_needed").value_or(0.0), 0)}}),
        "note");
  }

  Table table() const {
    Table table;
    table.columns = {column("task", true), column("metric", true), column("a"),
                     column("b"),          column("speedup"),      column("low"),
                     column("high"),       column("runs_a"),       column("runs_b"),
                     column("p"),          column("verdict", true)};
    for (const Json& row : list(json_, "/rows")) {
      const bool is_bounded = text(row, "/note").empty();
      auto bound = [&](const char* path) {
        return number_cell(is_bounded ? number(row, path) : std::nullopt, 2);
      };
      auto value = [&](const char* path) {
        const auto figure = number(row, path);
        return number_cell(figure, std::max(decimals_for(figure.value_or(0.0)), 1));
      };
      table.rows.push_back({text_cell(task_text(row)), text_cell(metric_text(text(row, "/metric"))),
                            value("/a"), value("/b"), number_cell(number(row, "/speedup"), 2),
                            bound("/low"), bound("/high"), number_cell(number(row, "/runs_a"), 0),
                            number_cell(number(row, "/runs_b"), 0),
                            number_cell(number(row, "/p"), 4), text_cell(verdict_text(row))});
    }
    return table;
  }

  // How many times faster B is, with the interval; the triangle stands at 1, no difference.
  void speedups() {
    Json panels = Json::array();
    for (const ComparedMetric& metric : kCompared) {
      Json panel = {{"title", metric_text(metric.name)}, {"rows", Json::array()}};
      for (const Json& row : list(json_, "/rows")) {
        const auto speedup = number(row, "/speedup");
        if (text(row, "/metric") != metric.name || !speedup) continue;
        const bool is_bounded = text(row, "/note").empty();
        panel["rows"].push_back({{"label", task_text(row)},
                                 {"color", 1},
                                 {"values", Json::array({*speedup})},
                                 {"shown", Json::array({fixed(*speedup, 2)})},
                                 {"mid", nullptr},
                                 {"low", is_bounded ? part(row, "/low") : Json()},
                                 {"high", is_bounded ? part(row, "/high") : Json()},
                                 {"limit", 1.0},
                                 {"limit_shown", "1"}});
      }
      if (!panel["rows"].empty()) panels.push_back(std::move(panel));
    }
    if (panels.empty()) return;
    html_.section(strings_("html.compare.speedups"));
    html_.paragraph(strings_("html.compare.speedups.note"), "note");
    html_.figure({{"kind", "strips"}, {"unit", strings_("compare.times")}, {"panels", panels}},
                 table(), strings_("html.compare.speedups"));
  }

  // Every run of both, for each task that both have.
  void runs(const ComparedMetric& metric) {
    if (metric.path == nullptr) return;
    StripChart chart;
    chart.key = std::string("html.compare.") + metric.name;
    chart.limit_note = metric.is_time ? "" : "html.speed.limit";
    chart.label_column = "record";
    const char* limit = metric.is_time ? nullptr : "/limit_decode_tok_s";
    double largest = 0.0;
    for (const Json& task : list(*sides_[0], "/tasks")) {
      const std::string name = text(task, "/task");
      std::vector<Strip> strips;
      for (int side = 0; side < 2; ++side) {
        strips.push_back(
            record_strip(*sides_[static_cast<size_t>(side)], name, metric.path, limit));
        strips.back().panel = name_text(strings_, name);
        strips.back().label = side == 0 ? "A" : "B";
        strips.back().color = side;
      }
      if (strips[0].values.empty() || strips[1].values.empty()) continue;
      for (Strip& strip : strips) {
        for (const double value : strip.values) largest = std::max(largest, value);
        chart.strips.push_back(std::move(strip));
      }
    }
    chart.unit =
        metric.is_time ? time_unit(largest) : Unit{strings_("html.axis.speed"), 1.0, 1, false};
    add_strips(html_, strings_, chart);
  }

  void causes() {
    const Json& breakdowns = list(json_, "/breakdown");
    if (breakdowns.empty()) return;
    html_.section(strings_("html.compare.causes"));
    html_.paragraph(strings_("html.compare.causes.note"), "note");
    for (const Json& breakdown : breakdowns) {
      Table table;
      table.columns = {column("cause", true), column("factor"), column("because", true)};
      for (const Json& cause : list(breakdown, "/causes")) {
        const std::string id = text(cause, "/cause");
        table.rows.push_back({text_cell(strings_.fill("compare.cause." + id, {}).value_or(id)),
                              number_cell(number(cause, "/factor"), 2),
                              text_cell(compare_sentence(strings_, part(cause, "/clause"),
                                                         text(cause, "/because")))});
      }
      html_.paragraph(
          strings_("html.compare.ratio",
                   {{"metric", metric_text(text(breakdown, "/metric"))},
                    {"speedup", fixed(number(breakdown, "/speedup").value_or(1.0), 2)}}));
      html_.table(table);
      const std::string missing = text(breakdown, "/missing");
      if (!missing.empty())
        html_.paragraph(strings_("html.compare.missing", {{"missing", missing}}), "note");
    }
  }

  void cost() {
    if (!part(json_, "/cost").is_object()) return;
    html_.section(strings_("html.compare.cost"));
    Table table;
    table.columns = {column("task", true), column("a_per_run"), column("b_per_run")};
    for (TableColumn& column : table.columns) {
      if (column.key != "task") column.title += " " + text(json_, "/cost/currency");
    }
    for (const Json& row : list(json_, "/cost/rows")) {
      auto amount = [&](const char* path) {
        const auto value = number(row, path);
        return value ? Cell{fmt::format("{:.2g}", *value), *value} : Cell{};
      };
      table.rows.push_back({text_cell(task_text(row)), amount("/a_per_run"), amount("/b_per_run")});
    }
    html_.table(table);
    for (const std::string& line : sentences("/cost/lines", "/cost/line_clauses"))
      html_.paragraph(line);
  }

  // Every run of the pairs of two models here.
  void live_runs() {
    StripChart chart;
    chart.key = "html.compare.live";
    chart.unit = {strings_("html.axis.speed"), 1.0, 1, false};
    chart.label_column = "record";
    for (const Json& test : list(json_, "/live/tests")) {
      for (const bool is_b : {false, true}) {
        Strip strip;
        strip.panel = name_text(strings_, text(test, "/test"));
        strip.label = is_b ? "B" : "A";
        strip.color = is_b ? 1 : 0;
        for (const Json& speed : list(test, is_b ? "/b_tok_s" : "/a_tok_s")) {
          if (speed.is_number()) strip.values.push_back(speed.get<double>());
        }
        chart.strips.push_back(std::move(strip));
      }
    }
    add_strips(html_, strings_, chart);
  }

  // How it was measured, what the pairs could tell, and on what.
  void live_machine() {
    const Json& live = part(json_, "/live");
    if (!live.is_object()) return;
    auto figure = [&](const char* path) { return fixed(number(live, path).value_or(0.0), 0); };
    html_.section(strings_("html.compare.live.how"));
    html_.paragraph(strings_("compare.live.how", {{"seconds", figure("/measure_s")},
                                                  {"depth", figure("/settings/depth")},
                                                  {"prompt", figure("/settings/prompt_tokens")},
                                                  {"batch", figure("/settings/batch")}}));
    for (const Json& test : list(live, "/tests")) html_.paragraph(what_it_could_tell(test));
    Facts facts;
    for (const bool is_b : {false, true}) {
      std::vector<std::string> kernels;
      for (const Json& kernel : list(live, is_b ? "/kernels_b" : "/kernels_a")) {
        if (kernel.is_string()) kernels.push_back(kernel.get<std::string>());
      }
      const Json& ceilings = part(live, is_b ? "/ceilings_b" : "/ceilings_a");
      facts.emplace_back(is_b ? "B" : "A",
                         strings_("bench.machine",
                                  {{"cpu", text(ceilings, "/cpu_model")},
                                   {"isa", text(ceilings, "/isa")},
                                   {"threads", fixed(number(ceilings, "/threads").value_or(0), 0)},
                                   {"kernels", strings_.join(kernels)}}));
    }
    html_.terms(facts);
  }

  std::string what_it_could_tell(const Json& json) const {
    LiveTest test;
    test.test = text(json, "/test");
    for (const Json& speed : list(json, "/a_tok_s"))
      test.pairs.a.push_back(speed.is_number() ? speed.get<double>() : 0.0);
    test.smallest_difference = number(json, "/smallest_difference");
    if (const auto needed = number(json, "/pairs_for_5_percent"))
      test.pairs_for_5_percent = static_cast<int64_t>(*needed);
    return live_test_text(test, strings_);
  }

  void machines() {
    for (size_t side = 0; side < 2; ++side) {
      const Json& record = *sides_[side];
      if (!record.is_object()) continue;
      html_.section(strings_("html.compare.machine", {{"record", side == 0 ? "A" : "B"}}));
      Facts facts = machine_facts(strings_, record, record, part(record, "/model"));
      add_kernels(strings_, record, "", facts);
      html_.terms(facts);
    }
  }

  const Json& json_;
  const Json* const sides_[2];
  const Strings& strings_;
  HtmlReport html_;
};

}  // namespace

std::string compare_html(const Json& comparison, const Json& a, const Json& b,
                         const Strings& strings) {
  return ComparePage(comparison, a, b, strings).make();
}

}  // namespace quench
