#include "measure/report/grid_report.h"

#include "measure/report/bench_report.h"
#include "measure/report/lookup.h"
#include "measure/report/page_parts.h"
#include "measure/report/shootout_report.h"
#include "measure/statistics.h"

namespace quench {
namespace {

std::vector<double> speeds_of(const Json& row) {
  std::vector<double> speeds;
  for (const Json& value : list(row, "/tok_s")) speeds.push_back(value.get<double>());
  return speeds;
}

// "decode 64", in the language of the report.
std::string test_name(const Json& row, const Strings& strings) {
  return fmt::format("{} {:.0f}", name_text(strings, text(row, "/test")),
                     number(row, "/tokens").value_or(0.0));
}

// The same with its context and batch where they are not the usual ones.
std::string row_name(const Json& row, const Strings& strings) {
  std::string name = test_name(row, strings);
  const double depth = number(row, "/depth").value_or(0.0);
  const double batch = number(row, "/batch").value_or(1.0);
  if (depth > 0.0) name += fmt::format(" @{:.0f}", depth);
  if (batch > 1.0) name += fmt::format(" x{:.0f}", batch);
  return name;
}

std::vector<std::string> head_lines(const Json& grid, const Strings& strings) {
  std::vector<std::string> kernels;
  for (const Json& kernel : list(grid, "/kernels")) {
    if (kernel.is_string()) kernels.push_back(kernel.get<std::string>());
  }
  auto figure = [&](const char* path, int decimals, double scale = 1.0) {
    const auto value = number(grid, path);
    return value ? fixed(scale * *value, decimals) : "-";
  };
  return {strings("grid.model", {{"model", text(grid, "/model")},
                                 {"layers", figure("/num_hidden_layers", 0)},
                                 {"format", text(grid, "/format")},
                                 {"size_mb", figure("/weights_bytes", 1, 1e-6)},
                                 {"load_s", figure("/load_s", 2)}}),
          strings("bench.machine", {{"cpu", text(grid, "/ceilings/cpu_model")},
                                    {"isa", text(grid, "/isa")},
                                    {"threads", figure("/threads", 0)},
                                    {"kernels", strings.join(kernels)}})};
}

StripChart speed_chart(const Json& grid, const Strings& strings, const char* test) {
  StripChart chart;
  chart.key = std::string("html.grid.") + test;
  chart.limit_note = "html.speed.limit";
  chart.unit = {strings("html.axis.speed"), 1.0, 1, false};
  chart.label_column = "test";
  for (const Json& row : list(grid, "/rows")) {
    if (text(row, "/test") != test) continue;
    Strip strip;
    strip.label = row_name(row, strings);
    strip.color = 1;
    strip.values = speeds_of(row);
    if (const auto limit = number(row, "/limit_tok_s")) strip.limits = {*limit};
    chart.strips.push_back(std::move(strip));
  }
  return chart;
}

}  // namespace

Table grid_table(const Json& grid, const Strings& strings) {
  Table table;
  std::vector<const char*> keys = {"test",         "depth",      "batch",
                                   "median_tok_s", "best_tok_s", "limit_tok_s",
                                   "limit_share",  "bound",      "read_bytes_per_token"};
  bool is_predicted = false;
  for (const Json& row : list(grid, "/rows"))
    is_predicted = is_predicted || number(row, "/expected_error").has_value();
  if (is_predicted) keys.insert(keys.end(), {"expected_tok_s", "expected_error"});
  for (const char* key : keys) {
    const bool is_text = key == std::string_view("test") || key == std::string_view("bound");
    table.columns.push_back(
        {key, strings(std::string("column.") + key), is_text ? Align::kLeft : Align::kRight});
  }
  for (const Json& row : list(grid, "/rows")) {
    const std::vector<double> speeds = speeds_of(row);
    const auto middle = speeds.empty() ? std::nullopt : std::optional(median(speeds));
    const auto limit = number(row, "/limit_tok_s");
    table.rows.push_back(
        {text_cell(test_name(row, strings)), number_cell(number(row, "/depth"), 0),
         number_cell(number(row, "/batch"), 0), number_cell(middle, 1),
         number_cell(number(row, "/best_tok_s"), 1), number_cell(limit, 1),
         number_cell(middle && limit ? std::optional(*middle / *limit) : std::nullopt, 1, 100.0),
         text_cell(name_text(strings, text(row, "/bound"))),
         number_cell(number(row, "/read_bytes_per_token"), 2, 1e-6)});
    if (!is_predicted) continue;
    const auto error = number(row, "/expected_error");
    // The error is that of the time.
    table.rows.back().push_back(
        number_cell(middle && error ? std::optional(*middle / (1.0 + *error)) : std::nullopt, 1));
    table.rows.back().push_back(number_cell(error, 1, 100.0));
  }
  return table;
}

std::string grid_text(const Json& grid, const Strings& strings, bool bold) {
  std::string result;
  for (const std::string& line : head_lines(grid, strings)) result += line + "\n";
  result += "\n" + grid_table(grid, strings).text(bold);
  for (const std::string& line : problem_lines(grid, strings)) result += "! " + line + "\n";
  return result;
}

std::string grid_markdown(const Json& grid, const Strings& strings) {
  std::string result =
      fmt::format("# {}\n\n", strings("grid.title", {{"model", text(grid, "/model")}}));
  for (const std::string& line : head_lines(grid, strings)) result += line + ".\n\n";
  result += grid_table(grid, strings).markdown() + "\n";
  for (const std::string& line : problem_lines(grid, strings)) result += "- ! " + line + "\n";
  return result;
}

std::string grid_html(const Json& grid, const Strings& strings) {
  const std::string model = text(grid, "/model");
  HtmlReport html(strings, strings("grid.title", {{"model", model}}));
  html.paragraph(strings("html.grid.lead", {{"model", model},
                                            {"cpu", text(grid, "/ceilings/cpu_model")},
                                            {"time", readable_time(text(grid, "/time"))}}),
                 "lead");
  for (const std::string& line : problem_lines(grid, strings)) html.paragraph(line, "warning");
  html.section(strings("html.result"));
  html.table(grid_table(grid, strings));
  html.paragraph(strings("html.grid.terms"), "note");
  add_strips(html, strings, speed_chart(grid, strings, "decode"));
  add_strips(html, strings, speed_chart(grid, strings, "prefill"));
  html.section(strings("how"));
  for (const std::string& line : head_lines(grid, strings)) html.paragraph(line);
  html.paragraph(strings("html.grid.how"));
  html.section(strings("html.machine"));
  Facts facts = machine_facts(strings, grid, Json(), {{"name", model}});
  add_kernels(strings, grid, "", facts);
  html.terms(facts);
  return html.page();
}

}  // namespace quench
