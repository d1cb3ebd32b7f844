#include <fmt/ranges.h>

#include "measure/analyze/compare.h"

namespace quench {
namespace {

Json live_runs_json(const LiveRuns& live) {
  auto or_null = [](const auto& value) { return value ? Json(*value) : Json(); };
  Json tests = Json::array();
  for (const LiveTest& test : live.tests)
    tests.push_back({{"test", test.test},
                     {"a_tok_s", test.pairs.a},
                     {"b_tok_s", test.pairs.b},
                     {"smallest_difference", or_null(test.smallest_difference)},
                     {"pairs_for_5_percent", or_null(test.pairs_for_5_percent)}});
  return {{"settings",
           {{"prompt_tokens", live.prompt_tokens}, {"depth", live.depth}, {"batch", live.batch}}},
          {"kernels_a", live.kernels_a},
          {"kernels_b", live.kernels_b},
          {"ceilings_a", ceilings_json(live.ceilings_a)},
          {"ceilings_b", ceilings_json(live.ceilings_b)},
          {"tests", std::move(tests)},
          {"measure_s", live.measure_s}};
}

std::string live_runs_text(const LiveRuns& live) {
  std::string text = fmt::format(
      "\nMeasured in turns (ABBA) in {:.0f} s: decode behind {} tokens, prompts of {}, "
      "{} at once.\nkernels: A {}; B {}\n",
      live.measure_s, live.depth, live.prompt_tokens, live.batch, fmt::join(live.kernels_a, ", "),
      fmt::join(live.kernels_b, ", "));
  for (const LiveTest& test : live.tests) {
    text +=
        fmt::format("{}: {} pairs could have shown {}; a difference of 5 % needs {} pairs\n",
                    test.test, test.pairs.count(),
                    test.smallest_difference
                        ? fmt::format("a difference of {:.1f} %", 100.0 * *test.smallest_difference)
                        : std::string("no difference: too few, or too scattered"),
                    test.pairs_for_5_percent ? fmt::format("{}", *test.pairs_for_5_percent)
                                             : fmt::format("more than {}", kMostPairs));
  }
  return text;
}

}  // namespace

Json comparison_json(const Comparison& c) {
  Json breakdowns = Json::array();
  for (const Breakdown& breakdown : c.breakdowns) {
    Json causes = Json::array();
    for (const Cause& cause : breakdown.causes)
      causes.push_back(
          {{"cause", cause.name}, {"factor", cause.factor}, {"because", cause.because}});
    breakdowns.push_back(
        {{"metric", breakdown.metric},
         {"speedup", breakdown.speedup},
         {"causes", causes},
         {"missing", breakdown.missing.empty() ? Json() : Json(breakdown.missing)}});
  }
  Json json = {{"schema", "quench.compare/1"},
               {"a", c.name_a},
               {"b", c.name_b},
               {"alpha", c.alpha},
               {"rows", comparison_table(c).json()},
               {"runs_needed", c.runs_needed},
               {"breakdown", breakdowns},
               {"cost", nullptr},
               {"live", c.live ? live_runs_json(*c.live) : Json()},
               {"remarks", c.remarks}};
  if (c.cost) {
    auto or_null = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
    Json rows = Json::array(), runs = Json::array();
    for (const CostRow& row : c.cost->rows)
      rows.push_back({{"task", row.task},
                      {"a_per_run", or_null(row.a_per_run)},
                      {"b_per_run", or_null(row.b_per_run)}});
    for (const auto& value : c.cost->break_even_runs) runs.push_back(or_null(value));
    json["cost"] = {{"currency", c.cost->currency},
                    {"rows", rows},
                    {"break_even_runs", runs},
                    {"break_even_rented_hours", or_null(c.cost->break_even_rented_hours)},
                    {"lines", c.cost->lines}};
  }
  return json;
}

Table comparison_table(const Comparison& c) {
  Table table;
  table.columns = {{"task", "task", Align::kLeft},
                   {"metric", "figure", Align::kLeft},
                   {"a", "A"},
                   {"b", "B"},
                   {"speedup", "B faster by"},
                   {"low", "from"},
                   {"high", "to"},
                   {"runs_a", "runs A"},
                   {"runs_b", "runs B"},
                   {"p", "p"},
                   {"verdict", "B is", Align::kLeft},
                   {"note", "", Align::kLeft}};
  for (const CompareRow& row : c.rows) {
    const bool has_interval = row.note.empty();
    table.rows.push_back({text_cell(row.task), text_cell(row.metric), number_cell(row.a, 3),
                          number_cell(row.b, 3), number_cell(row.speedup, 2),
                          number_cell(has_interval ? std::optional(row.low) : std::nullopt, 2),
                          number_cell(has_interval ? std::optional(row.high) : std::nullopt, 2),
                          number_cell(static_cast<double>(row.runs_a), 0),
                          number_cell(static_cast<double>(row.runs_b), 0), number_cell(row.p, 4),
                          text_cell(row.verdict), text_cell(row.note)});
  }
  return table;
}

std::string comparison_text(const Comparison& c) {
  std::string text = fmt::format("A: {}\nB: {}\n\n", c.name_a, c.name_b);
  text += comparison_table(c).text();
  text += fmt::format(
      "\nA difference is called with at most {:.3g} % error over the whole table (exact {} tests, "
      "Holm); {} {} are needed to tell anything.\n",
      c.alpha * 100.0, c.live ? "sign" : "rank", c.runs_needed,
      c.live ? "pairs" : "runs of each task and side");
  if (c.live) text += live_runs_text(*c.live);
  for (const Breakdown& breakdown : c.breakdowns) {
    text += fmt::format("\n{}: {:.2f} =", breakdown.metric, breakdown.speedup);
    for (size_t i = 0; i < breakdown.causes.size(); ++i)
      text += fmt::format("{} {} {:.2f}", i == 0 ? "" : " x", breakdown.causes[i].name,
                          breakdown.causes[i].factor);
    text += "\n";
    for (const Cause& cause : breakdown.causes)
      text += fmt::format("  {:<18} {}\n", cause.name, cause.because);
    if (!breakdown.missing.empty())
      text += fmt::format("  not told apart without {}\n", breakdown.missing);
  }
  if (c.cost) {
    text += fmt::format("\ncost of a run, in {}\n", c.cost->currency);
    auto amount = [](const std::optional<double>& value) {
      return value ? fmt::format("{:.2g}", *value) : std::string("-");
    };
    for (const CostRow& row : c.cost->rows)
      text += fmt::format("  {:<14} A {:>8}  B {:>8}\n", row.task, amount(row.a_per_run),
                          amount(row.b_per_run));
    for (const std::string& line : c.cost->lines) text += "  " + line + "\n";
  }
  for (const std::string& remark : c.remarks) text += "\nremark: " + remark + "\n";
  return text;
}

}  // namespace quench
