// quench history: the measurements that were kept: list, show, export, import.
#include <algorithm>
#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "measure/history.h"
#include "measure/report/bench_report.h"
#include "measure/report/grid_report.h"
#include "measure/report/lookup.h"

namespace quench {
namespace {

constexpr const char* kHistoryExamples = R"(Examples:
  quench history                                    the newest measurements
  quench history --model Qwen3 --since 2026-01 --csv
  quench history show 3f2a
  quench history predictions                        what quench plan said, and what was measured
  quench history export --machine EPYC --out epyc.jsonl
  quench history import other_machine.jsonl)";

struct HistoryFlags {
  std::string file;  // empty: the user's
  HistoryFilter filter;
  bool json = false, csv = false, markdown = false;
  std::string lang = "en";
  std::string id;
  std::string out_path;
  std::vector<std::string> import_paths;
};

Result<std::unique_ptr<History>> open_history(const HistoryFlags& flags) {
  std::string path = flags.file;
  if (path.empty()) {
    QUENCH_TRY(path, history_path());
  } else if (!file_exists(path)) {
    return fail(ErrorCode::kNotFound, "{}: there is no such file.", path);
  }
  return History::open(path);
}

std::string compact(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// With the schema for those that read it by a program.
Table entry_table(const std::vector<HistoryEntry>& entries, bool has_schema) {
  Table table;
  table.columns = {{"id", "id", Align::kLeft},         {"time", "time", Align::kLeft},
                   {"kind", "what", Align::kLeft},     {"model", "model", Align::kLeft},
                   {"format", "format", Align::kLeft}, {"machine", "machine", Align::kLeft},
                   {"target", "target", Align::kLeft}, {"label", "label", Align::kLeft},
                   {"ttft_s", "first token ms"},       {"decode_tok_s", "decode tok/s"}};
  if (has_schema) table.columns.push_back({"schema", "schema", Align::kLeft});
  for (const HistoryEntry& entry : entries) {
    auto cell = [](const std::string& text) { return text.empty() ? Cell{} : text_cell(text); };
    table.rows.push_back({text_cell(entry.id), text_cell(entry.time), cell(entry.kind),
                          cell(entry.model), cell(entry.format), cell(entry.machine),
                          cell(entry.target), cell(entry.label), number_cell(entry.ttft_s, 1, 1e3),
                          number_cell(entry.decode_tok_s, 1)});
    if (has_schema) table.rows.back().push_back(cell(entry.schema));
  }
  return table;
}

void print(const HistoryFlags& flags, const Table& table) {
  const std::string text = flags.csv        ? table.csv()
                           : flags.markdown ? table.markdown()
                                            : table.text(stdout_takes_style());
  std::fputs(text.c_str(), stdout);
}

Result<void> list_entries(const HistoryFlags& flags) {
  QUENCH_TRY(const auto history, open_history(flags));
  if (const auto sound = history->check(); !sound)
    std::fprintf(stderr, "quench: %s\n", sound.error().message.c_str());
  QUENCH_TRY(const auto entries, history->list(flags.filter));
  const Table table = entry_table(entries, flags.json || flags.csv);
  if (flags.json) {
    std::printf("%s\n", table.json().dump(1, ' ', false, Json::error_handler_t::replace).c_str());
  } else if (entries.empty() && !flags.csv && !flags.markdown) {
    std::puts("No measurement is kept that matches; `quench bench` makes one.");
  } else {
    print(flags, table);
  }
  return {};
}

Table score_table(const std::vector<Score>& scores) {
  Table table;
  table.columns = {{"time", "measured", Align::kLeft},
                   {"prediction_time", "predicted", Align::kLeft},
                   {"model", "model", Align::kLeft},
                   {"format", "format", Align::kLeft},
                   {"task", "task", Align::kLeft},
                   {"metric", "figure", Align::kLeft},
                   {"tokens", "tokens"},
                   {"predicted_s", "predicted ms"},
                   {"low_s", "from"},
                   {"high_s", "to"},
                   {"measured_s", "measured ms"},
                   {"error", "off by %"},
                   {"expected_s", "expected ms"},
                   {"model_error", "model %"},
                   {"machine_error", "machine %"},
                   {"others_share", "others %"},
                   {"inside", "inside", Align::kLeft}};
  for (const Score& score : scores) {
    table.rows.push_back(
        {text_cell(score.time), text_cell(score.prediction_time), text_cell(score.model),
         text_cell(score.format), text_cell(score.task), text_cell(score.metric),
         number_cell(score.tokens, 0), number_cell(score.predicted, 2, 1e3),
         number_cell(score.low, 2, 1e3), number_cell(score.high, 2, 1e3),
         number_cell(score.measured, 2, 1e3), number_cell(score.error(), 1, 100.0),
         number_cell(score.expected, 2, 1e3), number_cell(score.model_error(), 1, 100.0),
         number_cell(score.machine_error(), 1, 100.0), number_cell(score.others_share, 0, 100.0),
         text_cell(score.is_inside() ? "yes" : "no")});
  }
  return table;
}

// Null where no score has it.
Json number_of(const ScoreSummary& summary, double value) {
  return summary.model_count > 0 ? Json(value) : Json();
}

Result<void> list_predictions(const HistoryFlags& flags) {
  QUENCH_TRY(const auto history, open_history(flags));
  QUENCH_TRY(const std::vector<Score> scores, history->scores(flags.filter));
  QUENCH_TRY(const int64_t unscored, history->count_unscored());
  const std::vector<ScoreSummary> summaries = summarize_scores(scores);
  if (flags.json) {
    Json summary = Json::array();
    for (const ScoreSummary& one : summaries)
      summary.push_back({{"metric", one.metric},
                         {"count", one.count},
                         {"mean_error", one.mean_error},
                         {"bias", one.bias},
                         {"inside_share", one.inside_share},
                         {"model_count", one.model_count},
                         {"mean_model_error", number_of(one, one.mean_model_error)},
                         {"model_bias", number_of(one, one.model_bias)}});
    print_json({{"schema", "quench.scores/1"},
                {"scores", score_table(scores).json()},
                {"summary", std::move(summary)},
                {"unscored", unscored}});
    return {};
  }
  const bool is_text = !flags.csv && !flags.markdown;
  if (!scores.empty() || !is_text) print(flags, score_table(scores));
  if (!is_text) return {};
  if (scores.empty())
    std::puts("No prediction has been scored; quench plan makes one, quench bench scores it.");
  for (const ScoreSummary& one : summaries) {
    std::printf(
        "%s: %lld scores, mean error %.1f %%, bias %+.1f %%, %.0f %% inside the 90 %% interval\n",
        one.metric.c_str(), static_cast<long long>(one.count), 100.0 * one.mean_error,
        100.0 * one.bias, 100.0 * one.inside_share);
    if (one.model_count == 0) continue;
    std::printf(
        "  %lld of them by what the machine reached beside the measurement: mean error %.1f %%, "
        "bias %+.1f %%\n",
        static_cast<long long>(one.model_count), 100.0 * one.mean_model_error,
        100.0 * one.model_bias);
  }
  if (unscored > 0)
    std::printf("%lld predictions wait for a measurement.\n", static_cast<long long>(unscored));
  return {};
}

Result<void> show(const HistoryFlags& flags) {
  QUENCH_TRY(const auto history, open_history(flags));
  QUENCH_TRY(const Json json, history->get(flags.id));
  const std::string schema = json.value("schema", "");
  const bool is_grid = schema == "quench.bench/1";
  const Strings& strings = Strings::of(flags.lang);
  if (flags.json || (!is_grid && schema != "quench.record/1")) {
    print_json(json);
  } else if (flags.csv) {
    std::fputs((is_grid ? grid_table(json, strings) : run_table(json)).csv().c_str(), stdout);
  } else if (flags.markdown) {
    std::fputs((is_grid ? grid_markdown : bench_markdown)(json, strings).c_str(), stdout);
  } else {
    std::printf("%s, %s (commit %s)\n", json["id"].get<std::string>().c_str(),
                json["time"].get<std::string>().c_str(), text(json, "/build/commit").c_str());
    const auto make = is_grid ? grid_text : bench_text;
    std::fputs(make(json, strings, stdout_takes_style()).c_str(), stdout);
  }
  return {};
}

Result<void> export_records(const HistoryFlags& flags) {
  if (!flags.out_path.empty()) QUENCH_TRY_VOID(check_output_path(flags.out_path));
  QUENCH_TRY(const auto history, open_history(flags));
  std::string lines;
  int64_t count = 0;
  int64_t unreadable = 0;
  auto use = [&](const std::string&, const Json& json) {
    lines += compact(json) + "\n";
    ++count;
  };
  if (!flags.id.empty()) {
    QUENCH_TRY(const Json record, history->get(flags.id));
    use(flags.id, record);
  } else {
    QUENCH_TRY(unreadable, history->for_each(flags.filter, use));
  }
  if (flags.out_path.empty()) {
    std::fputs(lines.c_str(), stdout);
  } else {
    QUENCH_TRY_VOID(write_file_atomic(flags.out_path, lines));
    std::printf("%lld measurements in %s\n", static_cast<long long>(count), flags.out_path.c_str());
  }
  if (unreadable == 0) return {};
  return fail(ErrorCode::kInvalidFile, "{} measurements of the history cannot be read.",
              unreadable);
}

Result<void> import_records(const HistoryFlags& flags) {
  QUENCH_TRY(const auto history, open_history(flags));
  std::string problem;
  for (const std::string& path : flags.import_paths) {
    QUENCH_TRY(const ImportCounts counts, history->import_file(path));
    std::printf("%s: %lld added, %lld were there already, %lld refused\n", path.c_str(),
                static_cast<long long>(counts.added), static_cast<long long>(counts.known),
                static_cast<long long>(counts.refused));
    if (counts.refused > 0 && problem.empty())
      problem = fmt::format("{}: {} were refused; the first: {}", path, counts.refused,
                            counts.first_problem);
  }
  return problem.empty() ? Result<void>() : fail(ErrorCode::kInvalidFile, "{}", problem);
}

Result<void> remove_record(const HistoryFlags& flags) {
  QUENCH_TRY(const auto history, open_history(flags));
  return history->remove(flags.id);
}

}  // namespace

void add_history(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<HistoryFlags>();
  HistoryFilter& filter = flags->filter;
  filter.limit = 20;
  CLI::App* verb = app.add_subcommand("history", "The measurements that were kept on this machine");
  verb->footer(kHistoryExamples);
  verb->require_subcommand(0, 1);
  verb->add_option("--file", flags->file,
                   "This history; default: quench/history.db in XDG_DATA_HOME or ~/.local/share");
  verb->add_option("--kind", filter.kind, "protocol, load, grid, shootout or eval");
  verb->add_option("--model", filter.model, "Only models whose name contains this; so the others");
  verb->add_option("--format", filter.format, "Weights' format");
  verb->add_option("--machine", filter.machine, "CPU model");
  verb->add_option("--target", filter.target, "engine, or a server's address");
  verb->add_option("--label", filter.label, "Label");
  verb->add_option("--schema", filter.schema, "record, shootout, ...");
  verb->add_option("--since", filter.since, "From this time on: 2026-01-31 or the beginning of it");
  verb->add_option("--until", filter.until, "Up to this time");
  auto* limit = verb->add_option("--limit", filter.limit, "The newest so many; 0: all")
                    ->check(CLI::Range(int64_t{0}, int64_t{1} << 40))
                    ->capture_default_str();
  verb->add_option("--lang", flags->lang, "Language of what `show` prints")
      ->check(CLI::IsMember(Strings::languages()))
      ->capture_default_str();
  auto* json = verb->add_flag("--json", flags->json, "JSON instead of text");
  auto* csv = verb->add_flag("--csv", flags->csv, "CSV instead of text");
  auto* markdown = verb->add_flag("--md", flags->markdown, "Markdown instead of text");
  json->excludes(csv)->excludes(markdown);
  csv->excludes(markdown);
  using Work = Result<void> (*)(const HistoryFlags&);
  auto add = [&](const char* name, const char* help, Work work) {
    CLI::App* sub = verb->add_subcommand(name, help)->fallthrough();
    sub->callback([flags, work, &chosen] { chosen = [flags, work] { return work(*flags); }; });
    return sub;
  };
  add("list", "What is kept, the newest last (the default)", list_entries);
  add("show", "One measurement", show)
      ->add_option("ID", flags->id, "Its id, or the beginning of it")
      ->required();
  add("predictions", "What was predicted of this machine, and how far off it was",
      list_predictions);
  CLI::App* exporting = add("export", "Measurements as JSON, one per line", export_records);
  exporting->add_option("ID", flags->id, "Only this one");
  exporting->add_option("--out", flags->out_path, "To this file");
  add("import", "Take measurements from a file", import_records)
      ->add_option("FILE", flags->import_paths,
                   "JSON, one measurement per line, or another machine's history.db")
      ->required();
  add("remove", "Forget one measurement", remove_record)
      ->add_option("ID", flags->id, "Its id, or the beginning of it")
      ->required();
  exporting->callback([flags, limit, &chosen] {
    if (limit->count() == 0) flags->filter.limit = 0;
    chosen = [flags] { return export_records(*flags); };
  });
  // Runs after those of the subcommands.
  verb->callback([flags, verb, &chosen] {
    if (verb->get_subcommands().empty()) chosen = [flags] { return list_entries(*flags); };
  });
}

}  // namespace quench
