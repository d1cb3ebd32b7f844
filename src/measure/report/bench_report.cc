#include "measure/report/bench_report.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "measure/bench_record.h"
#include "measure/machine.h"

namespace quench {
namespace {

std::optional<double> median_of(const Summary& summary) {
  return summary.count == 0 ? std::nullopt : std::optional(summary.median);
}
std::optional<double> mean_of(const Summary& summary) {
  return summary.count == 0 ? std::nullopt : std::optional(summary.mean);
}

// "12.3 (11.9 to 13.0)": the median and its interval.
Cell interval_cell(const Summary& summary, int decimals, double scale = 1.0) {
  if (summary.count == 0) return {};
  const std::string text =
      fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", scale * summary.median, decimals,
                  scale * summary.interval.low, decimals, scale * summary.interval.high, decimals);
  return {text, summary.median};
}

// Three digits or more of what takes milliseconds here and minutes there.
int decimals_for(const Summary& summary, double scale) {
  const double value = scale * summary.median;
  return value >= 100.0 ? 0 : value >= 10.0 ? 1 : value >= 1.0 ? 2 : 3;
}

bool has_counted_runs(const Bench& bench) {
  return std::any_of(bench.tasks.begin(), bench.tasks.end(), [](const TaskRuns& task) {
    return !counted(task, [](const BenchRun& run) { return std::optional(run.e2e_s); }).empty();
  });
}

Table latency_table(const Bench& bench) {
  Table table;
  table.columns = {{"task", "task", Align::kLeft},
                   {"runs", "runs"},
                   {"prompt_tokens", "prompt"},
                   {"generated_tokens", "answer tokens"},
                   {"ttft_s", "first token ms"},
                   {"mean_ttft_s", "mean"},
                   {"e2e_s", "full response s"},
                   {"mean_e2e_s", "mean"},
                   {"e2e_at_median_length_s", "at the median length s"}};
  for (const TaskRuns& task : bench.tasks) {
    const TaskSummary summary = summarize_task(task);
    const Summary prompt = summarize(counted(task, [](const BenchRun& run) {
      return run.prompt_tokens ? std::optional<double>(*run.prompt_tokens) : std::nullopt;
    }));
    table.rows.push_back(
        {text_cell(task.task), number_cell(static_cast<double>(summary.e2e_s.count), 0),
         number_cell(median_of(prompt), 0), interval_cell(summary.generated_tokens, 0),
         interval_cell(summary.ttft_s, decimals_for(summary.ttft_s, 1e3), 1e3),
         number_cell(mean_of(summary.ttft_s), decimals_for(summary.ttft_s, 1e3), 1e3),
         interval_cell(summary.e2e_s, decimals_for(summary.e2e_s, 1.0)),
         number_cell(mean_of(summary.e2e_s), decimals_for(summary.e2e_s, 1.0)),
         interval_cell(summary.e2e_at_median_length_s, decimals_for(summary.e2e_s, 1.0))});
  }
  return table;
}

Table speed_table(const Bench& bench) {
  Table table;
  table.columns = {{"task", "task", Align::kLeft},  {"decode_tok_s", "decode tok/s"},
                   {"mean_decode_tok_s", "mean"},   {"limit_decode_tok_s", "limit"},
                   {"decode_share", "% of limit"},  {"prefill_tok_s", "prefill tok/s"},
                   {"prefill_share", "% of limit"}, {"smallest_difference", "visible from %"}};
  for (const TaskRuns& task : bench.tasks) {
    const TaskSummary summary = summarize_task(task);
    const Summary& decode = summary.decode_tok_s;
    const auto difference =
        decode.count == 0
            ? std::nullopt
            : smallest_difference(decode.count, decode.standard_deviation / decode.mean);
    table.rows.push_back(
        {text_cell(task.task), interval_cell(decode, decimals_for(decode, 1.0)),
         number_cell(mean_of(decode), decimals_for(decode, 1.0)),
         number_cell(median_of(summary.limit_decode_tok_s), decimals_for(decode, 1.0)),
         number_cell(summary.decode_share, 0, 100.0),
         interval_cell(summary.prefill_tok_s, decimals_for(summary.prefill_tok_s, 1.0)),
         number_cell(summary.prefill_share, 0, 100.0), number_cell(difference, 1, 100.0)});
  }
  return table;
}

Table load_table(const Bench& bench) {
  Table table;
  table.columns = {{"shape", "load", Align::kLeft},
                   {"requests", "requests"},
                   {"failed", "failed"},
                   {"output_tok_s", "tok/s"},
                   {"full_output_tok_s", "tok/s while full"},
                   {"requests_s", "requests/s"},
                   {"ttft_s", "first token ms"},
                   {"tpot_s", "ms per token"},
                   {"e2e_s", "full response s"},
                   {"good_share", "good %"},
                   {"goodput_requests_s", "good requests/s"}};
  for (const LoadLevel& level : bench.loads) {
    const LoadSummary summary = summarize_load(level, bench.slo);
    const std::string shape = level.shape.concurrency
                                  ? fmt::format("{} at once", *level.shape.concurrency)
                                  : fmt::format("{} per second", level.shape.rate_s.value_or(0.0));
    const Summary& ttft = summary.response_ttft_s;
    table.rows.push_back(
        {text_cell(shape), number_cell(static_cast<double>(level.runs.size()), 0),
         number_cell(static_cast<double>(summary.failed), 0), number_cell(summary.output_tok_s, 1),
         number_cell(summary.full_output_tok_s, 1), number_cell(summary.requests_s, 2),
         interval_cell(ttft, decimals_for(ttft, 1e3), 1e3),
         interval_cell(summary.tpot_s, decimals_for(summary.tpot_s, 1e3), 1e3),
         interval_cell(summary.response_e2e_s, decimals_for(summary.response_e2e_s, 1.0)),
         number_cell(summary.good_share, 0, 100.0), number_cell(summary.goodput_requests_s, 2)});
  }
  return table;
}

std::string model_line(const Bench& bench) {
  const MeasuredModel& model = bench.model;
  if (bench.target.value("target", "") == "http") {
    return fmt::format(
        "{} at {} ({}{})", model.name.empty() ? "an unnamed model" : model.name,
        bench.target.value("url", ""), bench.target.value("host", ""),
        bench.target["server"].is_string() ? ", " + bench.target["server"].get<std::string>() : "");
  }
  return fmt::format("{} ({}), {}: {:.1f} MB of weights", model.name, model.family, model.format,
                     static_cast<double>(model.bytes) / 1e6);
}

std::string machine_line(const Bench& bench) {
  const Machine machine = this_machine();
  std::string text = machine.cpu_model.empty() ? "an unknown CPU" : machine.cpu_model;
  if (bench.target.value("target", "") == "http") return "measured from " + text;
  std::vector<std::string> kernels;
  for (const Json& kernel : bench.target.value("kernels", Json::array()))
    kernels.push_back(kernel.get<std::string>());
  return fmt::format("{}, ISA level {}, {} threads; kernels {}", text,
                     bench.target.value("isa", ""), bench.target.value("threads", 0),
                     fmt::join(kernels, ", "));
}

std::string protocol_line(const Bench& bench) {
  std::vector<std::string> sampling;
  for (const auto& [key, value] : bench.sampling.items()) {
    if (key == "max_new_tokens" && (bench.length.max_new_tokens || bench.locked_tokens)) continue;
    sampling.push_back(fmt::format("{} {}", key, value.dump()));
  }
  if (bench.locked_tokens) {
    sampling.push_back(fmt::format("exactly {} tokens", *bench.locked_tokens));
  } else if (bench.length.max_new_tokens) {
    sampling.push_back(fmt::format("max_new_tokens {}", *bench.length.max_new_tokens));
  }
  const std::string runs =
      bench.loads.empty()
          ? fmt::format("{} warm-up and {} counted runs of each task", bench.length.warmups,
                        bench.length.runs)
          : fmt::format("load, after {} warm-up runs of each task, all tasks in turn",
                        bench.length.warmups);
  return fmt::format("{}: {}, prompts in {}, seeds from {}; {}", bench.length.name, runs,
                     bench.lang == "zh" ? "Chinese" : "English", bench.first_seed,
                     fmt::join(sampling, ", "));
}

// What the columns with intervals mean, for the smallest number of runs that a task has.
std::string interval_line(const Bench& bench) {
  int64_t least = 0;
  for (const TaskRuns& task : bench.tasks) {
    const int64_t count = summarize_task(task).e2e_s.count;
    least = least == 0 ? count : std::min(least, count);
  }
  if (least < 2) return "One run says nothing about how much the next one would differ.";
  const std::vector<double> ranks(static_cast<size_t>(least), 0.0);
  return fmt::format(
      "Medians, in parentheses the values between which the true median lies with "
      "{:.1f} %. \"visible from\": a smaller difference to another measurement like "
      "this one would not be seen.",
      100.0 * median_interval(ranks).coverage);
}

std::vector<std::string> figure_lines(const Bench& bench) {
  std::vector<std::string> lines;
  auto add = [&](std::string line) { lines.push_back(std::move(line)); };
  if (!bench.tasks.empty() && !bench.tasks.front().runs.empty()) {
    const BenchRun& first = bench.tasks.front().runs.front();
    std::string text = bench.load_s ? fmt::format("loaded in {:.2f} s; ", *bench.load_s) : "";
    if (first.error.empty() && !first.token_s.empty())
      add(
          fmt::format("Cold: {}first token of the very first request after {:.0f} ms, its answer "
                      "after {:.2f} s.",
                      text, 1e3 * first.ttft_s, first.e2e_s));
  }
  for (const TaskRuns& task : bench.tasks) {
    const auto warmups = std::count_if(task.runs.begin(), task.runs.end(),
                                       [](const BenchRun& run) { return run.warmup; });
    if (warmups > bench.length.warmups)
      add(fmt::format("Warm-up: {} took {} runs until its speed no longer climbed.", task.task,
                      warmups));
  }
  if (bench.peak_bytes)
    add(fmt::format("Memory: {:.1f} MB at most, {:.1f} MB planned.",
                    static_cast<double>(*bench.peak_bytes) / 1e6,
                    static_cast<double>(bench.planned_bytes.value_or(0)) / 1e6));
  if (bench.state) {
    const MachineState& state = *bench.state;
    std::string text = fmt::format(
        "Machine: processors {:.0f} % busy, {:.0f} % by others, {:.1f} "
        "% stolen",
        100.0 * state.during.busy_share.value_or(0.0),
        100.0 * state.during.others_share.value_or(0.0),
        100.0 * state.during.steal_share.value_or(0.0));
    if (state.clock_ghz_median)
      text += fmt::format(", clock {:.2f} GHz ({:.2f} to {:.2f})", *state.clock_ghz_median,
                          *state.clock_ghz_min, *state.clock_ghz_max);
    if (state.temperature_max_c)
      text += fmt::format(", {:.0f} degrees at most", *state.temperature_max_c);
    add(text + ".");
    add(state.energy_j ? fmt::format("Energy: {:.1f} J of processors and memory.", *state.energy_j)
                       : "Energy: this machine does not tell.");
  }
  for (const Problem& problem : bench.problems) add("! " + problem.message);
  if (!bench.complete) add("! Stopped before its end: what is here was measured.");
  return lines;
}

}  // namespace

std::string bench_text(const Bench& bench, bool bold) {
  std::string text =
      fmt::format("{}\n{}\n{}\n\n", model_line(bench), machine_line(bench), protocol_line(bench));
  if (has_counted_runs(bench)) {
    text += latency_table(bench).text(bold) + "\n" + speed_table(bench).text(bold);
    text += interval_line(bench) + "\n";
  }
  if (!bench.loads.empty()) text += load_table(bench).text(bold);
  text += "\n";
  for (const std::string& line : figure_lines(bench)) text += line + "\n";
  return text;
}

std::string bench_markdown(const Bench& bench, const std::string& time) {
  std::string text =
      fmt::format("# {}\n\n{}, {}.\n\n{}.\n\n{}.\n\n", bench.model.name, model_line(bench), time,
                  machine_line(bench), protocol_line(bench));
  if (has_counted_runs(bench)) {
    text += latency_table(bench).markdown() + "\n" + speed_table(bench).markdown() + "\n";
    text += interval_line(bench) + "\n\n";
  }
  if (!bench.loads.empty()) text += load_table(bench).markdown() + "\n";
  for (const std::string& line : figure_lines(bench)) text += "- " + line + "\n";
  return text;
}

Table run_table(const Bench& bench) {
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
  auto add = [&](const BenchRun& run, const LoadShape& shape) {
    const bool has_tokens = !run.token_s.empty();
    auto whole = [](std::optional<int64_t> value) {
      return value ? Cell{std::to_string(*value), *value} : Cell{};
    };
    table.rows.push_back(
        {text_cell(run.task), text_cell(bench.lang), whole(shape.concurrency),
         number_cell(shape.rate_s, 2), whole(run.warmup ? 1 : 0),
         whole(static_cast<int64_t>(run.seed)), whole(run.prompt_tokens),
         whole(run.generated_tokens), text_cell(finish_reason_name(run.finish_reason)),
         number_cell(has_tokens ? std::optional(run.ttft_s) : std::nullopt, 4),
         number_cell(run.e2e_s, 4), number_cell(run.decode_tok_s(), 2),
         number_cell(run.prefill_tok_s(), 2), number_cell(run.limit_decode_tok_s, 2),
         number_cell(run.energy_j, 2), run.error.empty() ? Cell{} : text_cell(run.error)});
  };
  for (const TaskRuns& task : bench.tasks) {
    for (const BenchRun& run : task.runs) add(run, {});
  }
  for (const LoadLevel& level : bench.loads) {
    for (const BenchRun& run : level.runs) add(run, level.shape);
  }
  return table;
}

}  // namespace quench
