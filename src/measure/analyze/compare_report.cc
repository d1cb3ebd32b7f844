#include "base/check.h"
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

std::string live_runs_text(const LiveRuns& live, const Strings& strings) {
  std::string text =
      "\n" +
      strings("compare.live.how", {{"seconds", fmt::format("{:.0f}", live.measure_s)},
                                   {"depth", std::to_string(live.depth)},
                                   {"prompt", std::to_string(live.prompt_tokens)},
                                   {"batch", std::to_string(live.batch)}}) +
      "\n" +
      strings("compare.live.kernels",
              {{"a", strings.join(live.kernels_a)}, {"b", strings.join(live.kernels_b)}}) +
      "\n";
  for (const LiveTest& test : live.tests) text += live_test_text(test, strings) + "\n";
  return text;
}

// {"key", "values"}.
Json clause_json(const Clause& clause) { return clauses_json({clause}).front(); }

Json english(const std::vector<Clause>& clauses) {
  Json texts = Json::array();
  for (const Clause& clause : clauses) texts.push_back(compare_sentence(Strings::of("en"), clause));
  return texts;
}

// What people read, and what machines do.
Cell named_cell(const Strings& strings, const std::string& prefix, const std::string& name) {
  return {strings.fill(prefix + name, {}).value_or(name), name};
}

}  // namespace

std::string live_test_text(const LiveTest& test, const Strings& strings) {
  std::map<std::string, std::string> values = {
      {"test", strings.fill("name." + test.test, {}).value_or(test.test)},
      {"pairs", std::to_string(test.pairs.count())},
      {"needed", test.pairs_for_5_percent
                     ? std::to_string(*test.pairs_for_5_percent)
                     : strings("compare.live.more_than", {{"pairs", std::to_string(kMostPairs)}})}};
  if (!test.smallest_difference) return strings("compare.live.could_not", values);
  values["percent"] = fmt::format("{:.1f}", 100.0 * *test.smallest_difference);
  return strings("compare.live.could", values);
}

std::string compare_sentence(const Strings& strings, const Clause& clause) {
  const auto text = compare_sentence(strings, clause_json(clause), "");
  QUENCH_CHECK(!text.empty(), "no sentence \"{}\" with these values", clause.key);
  return text;
}

std::string compare_sentence(const Strings& strings, const Json& clause, const std::string& text) {
  if (!clause.is_object() || !clause.contains("key") || !clause["key"].is_string() ||
      !clause.contains("values") || !clause["values"].is_object())
    return text;
  std::map<std::string, std::string> values;
  for (const auto& [name, value] : clause["values"].items()) {
    if (!value.is_string()) return text;
    const std::string word = value.get<std::string>();
    values[name] = strings.fill("compare.name." + word, {}).value_or(word);
  }
  return strings.fill("compare.say." + clause["key"].get<std::string>(), values).value_or(text);
}

Json comparison_json(const Comparison& c) {
  Json breakdowns = Json::array();
  for (const Breakdown& breakdown : c.breakdowns) {
    Json causes = Json::array();
    for (const Cause& cause : breakdown.causes)
      causes.push_back({{"cause", cause.name},
                        {"factor", cause.factor},
                        {"because", compare_sentence(Strings::of("en"), cause.because)},
                        {"clause", clause_json(cause.because)}});
    breakdowns.push_back(
        {{"metric", breakdown.metric},
         {"speedup", breakdown.speedup},
         {"causes", causes},
         {"missing", breakdown.missing.empty()
                         ? Json()
                         : Json(Strings::of("en")("compare.missing." + breakdown.missing))}});
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
               {"remarks", english(c.remarks)},
               {"remark_clauses", clauses_json(c.remarks)}};
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
                    {"lines", english(c.cost->lines)},
                    {"line_clauses", clauses_json(c.cost->lines)}};
  }
  return json;
}

Table comparison_table(const Comparison& c, const Strings& strings) {
  Table table;
  for (const char* key : {"task", "metric", "a", "b", "speedup", "low", "high", "runs_a", "runs_b",
                          "p", "verdict", "note"}) {
    const std::string_view name = key;
    const bool is_text = name == "task" || name == "metric" || name == "verdict" || name == "note";
    table.columns.push_back({key, strings(std::string("compare.column.") + key),
                             is_text ? Align::kLeft : Align::kRight});
  }
  for (const CompareRow& row : c.rows) {
    const bool has_interval = !row.has_too_few_runs;
    Cell note = {"", ""};
    if (row.has_too_few_runs)
      note = {strings("compare.too_few"), Strings::of("en")("compare.too_few")};
    table.rows.push_back({named_cell(strings, row.task == "all" ? "compare." : "name.", row.task),
                          named_cell(strings, "compare.", row.metric), number_cell(row.a, 3),
                          number_cell(row.b, 3), number_cell(row.speedup, 2),
                          number_cell(has_interval ? std::optional(row.low) : std::nullopt, 2),
                          number_cell(has_interval ? std::optional(row.high) : std::nullopt, 2),
                          number_cell(static_cast<double>(row.runs_a), 0),
                          number_cell(static_cast<double>(row.runs_b), 0), number_cell(row.p, 4),
                          named_cell(strings, "compare.verdict.", row.verdict), note});
  }
  return table;
}

namespace {

// The same words for a terminal and as Markdown, whose lists want a line before them.
std::string comparison_words(const Comparison& c, const Strings& strings, bool is_markdown) {
  const std::string list = is_markdown ? "\n" : "";
  const std::string item = is_markdown ? "- " : "  ";
  const Table table = comparison_table(c, strings);
  std::string text = is_markdown ? fmt::format("- A: {}\n- B: {}\n\n", c.name_a, c.name_b)
                                 : fmt::format("A: {}\nB: {}\n\n", c.name_a, c.name_b);
  text += is_markdown ? table.markdown() : table.text();
  text += "\n" +
          strings(c.live ? "compare.called_pairs" : "compare.called_records",
                  {{"alpha_percent", fmt::format("{:.3g}", c.alpha * 100.0)},
                   {"runs_needed", std::to_string(c.runs_needed)}}) +
          "\n";
  if (c.live) text += live_runs_text(*c.live, strings);
  for (const Breakdown& breakdown : c.breakdowns) {
    text +=
        "\n" + strings("compare.ratio", {{"metric", strings("compare." + breakdown.metric)},
                                         {"speedup", fmt::format("{:.2f}", breakdown.speedup)}});
    std::string sentences;
    for (size_t i = 0; i < breakdown.causes.size(); ++i) {
      const Cause& cause = breakdown.causes[i];
      const std::string name = strings("compare.cause." + cause.name);
      text += fmt::format("{} {} {:.2f}", i == 0 ? "" : " x", name, cause.factor);
      sentences += fmt::format("{}{}: {}\n", item, name, compare_sentence(strings, cause.because));
    }
    text += "\n" + list + sentences;
    if (!breakdown.missing.empty()) {
      const std::string missing = strings("compare.missing." + breakdown.missing);
      text += item + strings("html.compare.missing", {{"missing", missing}}) + "\n";
    }
  }
  if (c.cost) {
    text += "\n" + strings("compare.cost_of_run", {{"currency", c.cost->currency}}) + "\n" + list;
    auto amount = [](const std::optional<double>& value) {
      return value ? fmt::format("{:.2g}", *value) : std::string("-");
    };
    for (const CostRow& row : c.cost->rows)
      text += fmt::format("{}{:<14} A {:>8}  B {:>8}\n", item, row.task, amount(row.a_per_run),
                          amount(row.b_per_run));
    for (const Clause& line : c.cost->lines) text += item + compare_sentence(strings, line) + "\n";
  }
  for (const Clause& remark : c.remarks)
    text += "\n" + strings("compare.remark", {{"text", compare_sentence(strings, remark)}}) + "\n";
  return text;
}

}  // namespace

std::string comparison_text(const Comparison& c, const Strings& strings) {
  return comparison_words(c, strings, false);
}

std::string comparison_markdown(const Comparison& c, const Strings& strings) {
  return comparison_words(c, strings, true);
}

}  // namespace quench
