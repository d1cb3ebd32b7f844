#include "measure/report/bench_report.h"

#include <algorithm>

#include "measure/report/cost_report.h"
#include "measure/report/lookup.h"
#include "measure/report/page_parts.h"
#include "measure/report/shootout_report.h"
#include "measure/statistics.h"

namespace quench {
namespace {

TableColumn titled(const Strings& strings, const std::string& key, Align align = Align::kRight) {
  return {key, strings("column." + key), align};
}

// "12.3 (11.9 to 13.0)": the median and its interval.
Cell interval_cell(const Json& summary, const Strings& strings, double scale = 1.0,
                   std::optional<int> decimals = {}) {
  const auto middle = number(summary, "/median");
  const auto low = number(summary, "/low");
  const auto high = number(summary, "/high");
  if (!middle) return {};
  const int digits = decimals.value_or(decimals_for(scale * *middle));
  const std::string shown = fixed(scale * *middle, digits);
  // One run has no interval.
  if (!low || !high || number(summary, "/count") == 1.0) return {shown, *middle};
  return {strings("interval", {{"middle", shown},
                               {"low", fixed(scale * *low, digits)},
                               {"high", fixed(scale * *high, digits)}}),
          *middle};
}

// With as many decimals as the median beside it.
Cell mean_cell(const Json& summary, double scale = 1.0) {
  return number_cell(number(summary, "/mean"),
                     decimals_for(scale * number(summary, "/median").value_or(0.0)), scale);
}

std::optional<double> median_prompt(const Json& task) {
  std::vector<double> tokens;
  for (const Json& run : list(task, "/runs")) {
    const auto prompt = number(run, "/prompt_tokens");
    if (prompt && part(run, "/warmup") != Json(true)) tokens.push_back(*prompt);
  }
  return tokens.empty() ? std::nullopt : std::optional(median(tokens));
}

bool is_server(const Json& record) { return text(record, "/target/kind") == "http"; }

std::string percent_of(const Json& json, const char* path, int decimals) {
  return fixed(100.0 * number(json, path).value_or(0.0), decimals);
}

std::string whole(const Json& json, const char* path) {
  return fixed(number(json, path).value_or(0.0), 0);
}

std::string problem_text(const Json& problem, const Strings& strings) {
  std::map<std::string, std::string> values;
  const Json& kept = part(problem, "/values");
  if (kept.is_object()) {
    for (const auto& [name, value] : kept.items()) {
      const std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
      values[name] = name == "task" ? name_text(strings, shown) : shown;
    }
  }
  // A record of an earlier version says it in English only.
  const auto filled = strings.fill("problem." + text(problem, "/key"), values);
  return filled ? *filled : text(problem, "/message");
}

std::string cold_line(const Json& record, const Strings& strings) {
  const auto ttft_s = number(record, "/cold/first_ttft_s");
  const auto e2e_s = number(record, "/cold/first_e2e_s");
  if (!ttft_s || !e2e_s) return "";
  const auto load_s = number(record, "/cold/load_s");
  const std::map<std::string, std::string> values = {{"load_s", fixed(load_s.value_or(0.0), 2)},
                                                     {"ttft_ms", fixed(1e3 * *ttft_s, 0)},
                                                     {"e2e_s", fixed(*e2e_s, 2)}};
  return strings(load_s ? "bench.cold" : "bench.cold_server", values);
}

std::string machine_state_line(const Json& record, const Strings& strings) {
  if (!part(record, "/state").is_object()) return "";
  std::string line =
      strings("bench.state", {{"busy", percent_of(record, "/state/busy_share", 0)},
                              {"others", percent_of(record, "/state/others_share", 0)},
                              {"steal", percent_of(record, "/state/steal_share", 1)}});
  if (number(record, "/state/clock_ghz/median")) {
    auto ghz = [&](const char* path) { return fixed(number(record, path).value_or(0.0), 2); };
    line += strings("list_separator") +
            strings("bench.clock", {{"median", ghz("/state/clock_ghz/median")},
                                    {"low", ghz("/state/clock_ghz/min")},
                                    {"high", ghz("/state/clock_ghz/max")}});
  }
  if (number(record, "/state/temperature_max_c")) {
    line += strings("list_separator") +
            strings("bench.temperature", {{"degrees", whole(record, "/state/temperature_max_c")}});
  }
  return line + strings("sentence_end");
}

// Outliers are flagged and stay in; what they do to the median is said.
std::string outlier_line(const Json& record, const Json& task, const Strings& strings) {
  const Json& decode = part(task, "/summary/decode_tok_s");
  const std::vector<double> speeds =
      run_values(record, text(task, "/task"), "/decode_tok_s", false);
  std::vector<std::string> values;
  for (const Json& index : list(decode, "/outliers")) {
    if (!index.is_number_integer()) continue;
    const auto at = index.get<int64_t>();
    if (at >= 0 && at < static_cast<int64_t>(speeds.size()))
      values.push_back(fixed(speeds[static_cast<size_t>(at)], 1));
  }
  const auto without = number(decode, "/median_without_outliers");
  if (values.empty() || !without) return "";
  return strings("bench.outliers", {{"task", name_text(strings, text(task, "/task"))},
                                    {"count", std::to_string(values.size())},
                                    {"all", std::to_string(speeds.size())},
                                    {"values", strings.join(values)},
                                    {"median", fixed(*without, 1)}});
}

}  // namespace

bool has_counted_runs(const Json& record) {
  return !run_values(record, "", "/e2e_s", false).empty();
}

std::string load_name(const Json& level, const Strings& strings) {
  if (number(level, "/concurrency"))
    return strings("load.concurrency", {{"count", whole(level, "/concurrency")}});
  return strings("load.rate",
                 {{"rate", fmt::format("{}", number(level, "/rate_s").value_or(0.0))}});
}

Table latency_table(const Json& record, const Strings& strings) {
  Table table;
  table.columns = {titled(strings, "task", Align::kLeft)};
  for (const char* key : {"runs", "prompt_tokens", "generated_tokens", "first_token_ms", "mean",
                          "full_response_s", "mean", "e2e_at_median_length_s"})
    table.columns.push_back(titled(strings, key));
  for (const Json& task : list(record, "/tasks")) {
    const Json& summary = part(task, "/summary");
    const Json& ttft = part(summary, "/ttft_s");
    const Json& e2e = part(summary, "/e2e_s");
    table.rows.push_back(
        {text_cell(name_text(strings, text(task, "/task"))),
         number_cell(number(e2e, "/count").value_or(0.0), 0), number_cell(median_prompt(task), 0),
         interval_cell(part(summary, "/generated_tokens"), strings, 1.0, 0),
         interval_cell(ttft, strings, 1e3), mean_cell(ttft, 1e3), interval_cell(e2e, strings),
         mean_cell(e2e), interval_cell(part(summary, "/e2e_at_median_length_s"), strings)});
  }
  return table;
}

Table speed_table(const Json& record, const Strings& strings) {
  Table table;
  table.columns = {titled(strings, "task", Align::kLeft)};
  for (const char* key : {"decode_tok_s", "mean", "limit", "limit_share", "prefill_tok_s",
                          "limit_share", "smallest_difference"})
    table.columns.push_back(titled(strings, key));
  for (const Json& task : list(record, "/tasks")) {
    const Json& summary = part(task, "/summary");
    const Json& decode = part(summary, "/decode_tok_s");
    const auto limit = number(summary, "/limit_decode_tok_s/median");
    table.rows.push_back({text_cell(name_text(strings, text(task, "/task"))),
                          interval_cell(decode, strings), mean_cell(decode),
                          number_cell(limit, decimals_for(limit.value_or(0.0))),
                          number_cell(number(summary, "/decode_share"), 0, 100.0),
                          interval_cell(part(summary, "/prefill_tok_s"), strings),
                          number_cell(number(summary, "/prefill_share"), 0, 100.0),
                          number_cell(number(decode, "/smallest_difference"), 1, 100.0)});
  }
  return table;
}

Table load_table(const Json& record, const Strings& strings) {
  Table table;
  table.columns = {titled(strings, "load", Align::kLeft)};
  for (const char* key :
       {"requests", "failed", "output_tok_s", "full_output_tok_s", "requests_s", "first_token_ms",
        "ms_per_token", "full_response_s", "good_share", "goodput_requests_s"})
    table.columns.push_back(titled(strings, key));
  for (const Json& level : list(record, "/loads")) {
    table.rows.push_back(
        {text_cell(load_name(level, strings)), number_cell(number(level, "/requests"), 0),
         number_cell(number(level, "/failed"), 0), number_cell(number(level, "/output_tok_s"), 1),
         number_cell(number(level, "/full_output_tok_s"), 1),
         number_cell(number(level, "/requests_s"), 2),
         interval_cell(part(level, "/summary/response_ttft_s"), strings, 1e3),
         interval_cell(part(level, "/summary/tpot_s"), strings, 1e3),
         interval_cell(part(level, "/summary/response_e2e_s"), strings),
         number_cell(number(level, "/good_share"), 0, 100.0),
         number_cell(number(level, "/goodput_requests_s"), 2)});
  }
  return table;
}

std::string model_line(const Json& record, const Strings& strings) {
  const std::string name = text(record, "/model/name");
  if (is_server(record)) {
    const std::string server = text(record, "/target/server");
    return strings(server.empty() ? "bench.server" : "bench.server_named",
                   {{"model", name.empty() ? strings("bench.unnamed") : name},
                    {"url", text(record, "/target/url")},
                    {"host", text(record, "/target/host")},
                    {"server", server}});
  }
  return strings("bench.engine",
                 {{"model", name},
                  {"family", text(record, "/model/family")},
                  {"format", text(record, "/model/format")},
                  {"size_mb", fixed(number(record, "/model/bytes").value_or(0.0) / 1e6, 1)}});
}

std::string machine_line(const Json& record, const Strings& strings) {
  const std::string named = text(record, "/machine/cpu_model");
  const std::string cpu = named.empty() ? strings("unknown_cpu") : named;
  if (is_server(record)) return strings("bench.machine_client", {{"cpu", cpu}});
  std::vector<std::string> kernels;
  for (const Json& kernel : list(record, "/kernels")) {
    if (kernel.is_string()) kernels.push_back(kernel.get<std::string>());
  }
  return strings("bench.machine", {{"cpu", cpu},
                                   {"isa", text(record, "/build/isa")},
                                   {"threads", whole(record, "/settings/threads")},
                                   {"kernels", strings.join(kernels)}});
}

std::string protocol_line(const Json& record, const Strings& strings) {
  const Json& settings = part(record, "/settings");
  const bool is_locked = number(settings, "/locked_tokens").has_value();
  const bool is_cut = number(settings, "/max_new_tokens").has_value();
  std::vector<std::string> sampling;
  const Json& kept = part(settings, "/sampling");
  if (kept.is_object()) {
    for (const auto& [key, value] : kept.items()) {
      if (key != "max_new_tokens" || !(is_locked || is_cut))
        sampling.push_back(fmt::format("{} {}", key, value.dump()));
    }
  }
  if (is_locked) {
    sampling.push_back(strings("bench.exactly", {{"tokens", whole(settings, "/locked_tokens")}}));
  } else if (is_cut) {
    sampling.push_back("max_new_tokens " + whole(settings, "/max_new_tokens"));
  }
  const std::string lang = text(settings, "/lang");
  return strings(list(record, "/loads").empty() ? "bench.protocol" : "bench.protocol_load",
                 {{"length", text(settings, "/length")},
                  {"warmups", whole(settings, "/warmups")},
                  {"runs", whole(settings, "/runs")},
                  {"lang", strings.fill("lang." + lang, {}).value_or(lang)},
                  {"seed", whole(settings, "/first_seed")},
                  {"sampling", strings.join(sampling)}});
}

std::string interval_line(const Json& record, const Strings& strings) {
  double least = 0.0;
  double coverage = 0.0;
  for (const Json& task : list(record, "/tasks")) {
    const double count = number(task, "/summary/e2e_s/count").value_or(0.0);
    if (least != 0.0 && count >= least) continue;
    least = count;
    coverage = number(task, "/summary/e2e_s/coverage").value_or(0.0);
  }
  if (least < 2.0) return strings("bench.one_run");
  return strings("bench.interval", {{"coverage", fixed(100.0 * coverage, 1)}});
}

std::vector<std::string> figure_lines(const Json& record, const Strings& strings) {
  std::vector<std::string> lines;
  auto add = [&](std::string line) {
    if (!line.empty()) lines.push_back(std::move(line));
  };
  add(cold_line(record, strings));
  for (const Json& task : list(record, "/tasks")) {
    add(outlier_line(record, task, strings));
    if (number(task, "/warmups").value_or(0.0) <= number(record, "/settings/warmups").value_or(0.0))
      continue;
    add(strings("bench.warmups", {{"task", name_text(strings, text(task, "/task"))},
                                  {"count", whole(task, "/warmups")}}));
  }
  if (const auto peak = number(record, "/memory/peak_bytes")) {
    const double planned = number(record, "/memory/planned_bytes").value_or(0.0);
    add(strings("bench.memory",
                {{"peak_mb", fixed(*peak / 1e6, 1)}, {"planned_mb", fixed(planned / 1e6, 1)}}));
  }
  add(machine_state_line(record, strings));
  if (part(record, "/state").is_object()) {
    const auto energy_j = number(record, "/energy_j");
    add(energy_j ? strings("bench.energy", {{"joules", fixed(*energy_j, 1)}})
                 : strings("bench.no_energy"));
  }
  return lines;
}

std::vector<std::string> problem_lines(const Json& record, const Strings& strings) {
  std::vector<std::string> lines;
  for (const Json& problem : list(record, "/problems"))
    lines.push_back(problem_text(problem, strings));
  if (part(record, "/complete") == Json(false)) lines.push_back(strings("bench.stopped"));
  return lines;
}

std::string bench_text(const Json& record, const Strings& strings, bool bold) {
  std::string result = fmt::format("{}\n{}\n{}\n\n", model_line(record, strings),
                                   machine_line(record, strings), protocol_line(record, strings));
  if (has_counted_runs(record)) {
    result +=
        latency_table(record, strings).text(bold) + "\n" + speed_table(record, strings).text(bold);
    result += interval_line(record, strings) + "\n";
  }
  if (!list(record, "/loads").empty()) result += load_table(record, strings).text(bold);
  result += "\n";
  for (const std::string& line : figure_lines(record, strings)) result += line + "\n";
  for (const std::string& line : problem_lines(record, strings)) result += "! " + line + "\n";
  const std::string cost = cost_text(record, strings, bold);
  return cost.empty() ? result : result + "\n" + cost;
}

std::string bench_markdown(const Json& record, const Strings& strings) {
  std::string result = fmt::format("# {}\n\n{} {}\n\n{}\n\n{}\n\n", text(record, "/model/name"),
                                   model_line(record, strings) + strings("sentence_end"),
                                   strings("measured_at", {{"time", text(record, "/time")}}),
                                   machine_line(record, strings) + strings("sentence_end"),
                                   protocol_line(record, strings) + strings("sentence_end"));
  if (has_counted_runs(record)) {
    result += latency_table(record, strings).markdown() + "\n" +
              speed_table(record, strings).markdown() + "\n";
    result += interval_line(record, strings) + "\n\n";
  }
  if (!list(record, "/loads").empty()) result += load_table(record, strings).markdown() + "\n";
  for (const std::string& line : figure_lines(record, strings)) result += "- " + line + "\n";
  for (const std::string& line : problem_lines(record, strings)) result += "- ! " + line + "\n";
  const std::string cost = cost_markdown(record, strings);
  return cost.empty() ? result : result + "\n" + cost;
}

Table run_table(const Json& record) {
  Table table;
  table.columns = {{"task", "task", Align::kLeft},
                   {"lang", "lang", Align::kLeft},
                   {"concurrency", "concurrency"},
                   {"rate_s", "rate"},
                   {"warmup", "warm-up"},
                   {"seed", "seed"},
                   {"prompt_tokens", "prompt"},
                   {"generated_tokens", "tokens"},
                   {"finish_reason", "finish", Align::kLeft},
                   {"ttft_s", "first token s"},
                   {"e2e_s", "full response s"},
                   {"decode_tok_s", "decode tok/s"},
                   {"prefill_tok_s", "prefill tok/s"},
                   {"limit_decode_tok_s", "limit"},
                   {"energy_j", "J"},
                   {"error", "error", Align::kLeft}};
  auto add = [&](const Json& run, const std::string& task, const std::string& lang,
                 const Json& level) {
    auto cell = [](const Json& value) {
      if (value.is_null()) return Cell{};
      return Cell{value.is_string() ? value.get<std::string>() : value.dump(), value};
    };
    const bool warmup = part(run, "/warmup") == Json(true);
    std::vector<Cell> cells = {text_cell(task), text_cell(lang), cell(part(level, "/concurrency")),
                               cell(part(level, "/rate_s")), cell(Json(warmup ? 1 : 0))};
    for (size_t c = cells.size(); c < table.columns.size(); ++c)
      cells.push_back(cell(part(run, ("/" + table.columns[c].key).c_str())));
    table.rows.push_back(std::move(cells));
  };
  for (const Json& task : list(record, "/tasks")) {
    for (const Json& run : list(task, "/runs"))
      add(run, text(task, "/task"), text(task, "/lang"), Json());
  }
  for (const Json& level : list(record, "/loads")) {
    for (const Json& run : list(level, "/runs"))
      add(run, text(run, "/task"), text(record, "/settings/lang"), level);
  }
  return table;
}

}  // namespace quench
