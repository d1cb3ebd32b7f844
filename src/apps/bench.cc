// quench bench: how fast a model answers, here or behind a server, by the fixed protocol or under
// load; and, with --pp and --tg, the speed of the model alone beside its limit.
#include <cstdio>
#include <cstdlib>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "measure/analyze/measured_cost.h"
#include "measure/analyze/score.h"
#include "measure/bench_record.h"
#include "measure/grid.h"
#include "measure/history.h"
#include "measure/http_client.h"
#include "measure/records.h"
#include "measure/report/bench_report.h"
#include "measure/report/grid_report.h"

namespace quench {
namespace {

constexpr const char* kBenchExamples = R"~(Examples:
  quench bench                                      three tasks, 3 warm-ups, 10 counted runs each
  quench bench ~/models/Qwen3-8B --format int4 --task chat --lang zh --md
  quench bench --concurrency 1,2,4,8 --slo-ttft 0.5 --slo-tpot 0.05
  quench bench --url http://127.0.0.1:8000/v1 --rate 2 --requests 100 --json
  quench bench Qwen2.5-7B --random-weights --layers 4 --format int4 --pp 512,2048 --tg 64)~";

struct BenchFlags {
  BenchOptions options;
  GridOptions grid;
  HttpOptions http;
  bool json = false;
  bool csv = false;
  bool markdown = false;
  bool no_history = false;
  std::string html_path;
  CostWishes cost;
  std::vector<CLI::Option*> grid_only;
  std::vector<CLI::Option*> protocol_only;

  bool is_machine_read() const { return json || csv || markdown; }
  bool wants_grid() const {
    return std::any_of(grid_only.begin(), grid_only.end(),
                       [](const CLI::Option* option) { return option->count() > 0; });
  }
};

std::string json_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// What is wrong with paths and prices is said before the work and not after it.
Result<void> check_flags(const BenchFlags& flags) {
  QUENCH_TRY_VOID(check_cost_wishes(flags.cost));
  if (!flags.grid.trace_path.empty()) QUENCH_TRY_VOID(check_output_path(flags.grid.trace_path));
  if (!flags.html_path.empty()) QUENCH_TRY_VOID(check_output_path(flags.html_path));
  return {};
}

Result<void> write_page(const BenchFlags& flags, const std::string& page) {
  QUENCH_TRY_VOID(write_file_atomic(flags.html_path, page));
  const Strings& strings = Strings::of(flags.options.lang);
  if (!flags.is_machine_read())
    std::printf("%s %s\n", strings("written.report").c_str(), flags.html_path.c_str());
  return {};
}

// Keeping is the last thing and fails without harm: the figures are printed by then.
void keep(const Json& record, const Strings& strings, bool is_quiet) {
  const auto kept = keep_in_history(record);
  if (!kept) {
    std::fprintf(stderr, "quench: %s\n", kept.error().message.c_str());
  } else if (!is_quiet) {
    std::printf("%s\n", strings("written.kept", {{"id", record["id"]}}).c_str());
  }
}

// How near earlier predictions came, in a line each; so far nothing, where nothing was predicted.
void print_scores(const std::vector<Measurement>& measurements, const Strings& strings,
                  bool is_quiet) {
  const std::string scores = score_text(measurements, strings);
  if (!is_quiet) std::fputs(scores.c_str(), stdout);
}

// What makes figures that must not be believed, or are none, is an error, after they are kept.
Result<void> refuse(const std::vector<Problem>& problems) {
  for (const Problem& problem : problems) {
    if (problem.kind == "failed" || problem.kind == "impossible")
      return fail(ErrorCode::kInternal, "{}", problem.message);
  }
  return {};
}

// Hours later would be a bad time to hear of it.
void warn_of_history(const BenchFlags& flags) {
  if (flags.no_history) return;
  if (const auto usable = check_history(); !usable)
    std::fprintf(stderr, "quench: %s\n", usable.error().message.c_str());
}

Result<void> bench_grid(BenchFlags& flags) {
  GridOptions& options = flags.grid;
  options.session = flags.options.session;
  options.seed = flags.options.first_seed;
  options.label = flags.options.label;
  options.stop = &interrupt_flag();
  warn_of_history(flags);
  ProgressLine line(true);
  options.progress = [&](const std::string& stage, int64_t done, int64_t total) {
    line.show(stage, done, total);
  };
  const auto grid = run_grid(options);
  line.clear();
  if (!grid) return tl::unexpected(grid.error());
  const Json json = grid_json(*grid, utc_time());
  const Strings& strings = Strings::of(flags.options.lang);
  if (flags.json) {
    std::fputs(json_text(json).c_str(), stdout);
  } else if (flags.csv) {
    std::fputs(grid_table(json, strings).csv().c_str(), stdout);
  } else if (flags.markdown) {
    std::fputs(grid_markdown(json, strings).c_str(), stdout);
  } else {
    std::fputs(grid_text(json, strings, stdout_takes_style()).c_str(), stdout);
  }
  if (!flags.no_history) {
    keep(json, strings, flags.is_machine_read());
    print_scores(measurements_of(*grid, utc_time()), strings, flags.is_machine_read());
  }
  if (!flags.html_path.empty()) QUENCH_TRY_VOID(write_page(flags, grid_html(json, strings)));
  return refuse(grid->problems);
}

Result<void> set_server(BenchFlags& flags) {
  if (flags.http.url.empty()) return {};
  if (const char* key = std::getenv("OPENAI_API_KEY")) flags.http.api_key = key;
  QUENCH_TRY(const Url url, parse_url(flags.http.url));
  const bool in_clear = !flags.http.api_key.empty() && !url.tls && !url.is_loopback();
  std::fprintf(stderr, "Requests go to %s%s%s.\n", url.authority().c_str(),
               flags.http.api_key.empty() ? "" : ", with the key from OPENAI_API_KEY",
               in_clear ? ", which travels unencrypted" : "");
  flags.options.http = flags.http;
  return {};
}

Result<void> bench_protocol(BenchFlags& flags) {
  QUENCH_TRY_VOID(set_server(flags));
  warn_of_history(flags);
  ProgressLine line(true);
  flags.options.stop = &interrupt_flag();
  flags.options.progress = [&](const std::string& stage, int64_t done, int64_t total,
                               const std::string& detail) {
    line.show(stage, done, total, detail);
  };
  Bench bench;
  const Result<void> done = run_bench(flags.options, bench);
  line.clear();
  const bool has_runs = !bench.tasks.empty() && !bench.tasks.front().runs.empty();
  if (!done && !has_runs) return done;
  Json record = record_json(bench, utc_time());
  QUENCH_TRY_VOID(add_cost(flags.cost, record));
  const Strings& strings = Strings::of(flags.options.lang);
  if (flags.json) {
    std::fputs(json_text(record).c_str(), stdout);
  } else if (flags.csv) {
    std::fputs(run_table(record).csv().c_str(), stdout);
  } else if (flags.markdown) {
    std::fputs(bench_markdown(record, strings).c_str(), stdout);
  } else {
    std::fputs(bench_text(record, strings, stdout_takes_style()).c_str(), stdout);
  }
  if (!flags.no_history) {
    keep(record, strings, flags.is_machine_read());
    if (const auto measurement = measurement_of(record))
      print_scores({*measurement}, strings, flags.is_machine_read());
  }
  if (!flags.html_path.empty()) QUENCH_TRY_VOID(write_page(flags, bench_html(record, strings)));
  if (!done) return done;
  return refuse(bench.problems);
}

Result<void> bench(BenchFlags& flags) {
  install_interrupt_flag();
  QUENCH_TRY_VOID(check_flags(flags));
  return flags.wants_grid() ? bench_grid(flags) : bench_protocol(flags);
}

template <class T>
CLI::Option* list_option(CLI::App& verb, const char* name, std::vector<T>& values, T low, T high,
                         const std::string& help) {
  return verb.add_option(name, values, help)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(low, high));
}

void add_protocol_options(CLI::App& verb, BenchFlags& flags) {
  BenchOptions& options = flags.options;
  auto keep_option = [&](CLI::Option* option) {
    flags.protocol_only.push_back(option->group("Protocol"));
    return option;
  };
  auto* tasks = keep_option(
      verb.add_option("--task", options.tasks, "Tasks (quench list tasks); default: the protocol's")
          ->delimiter(',')
          ->allow_extra_args(false));
  keep_option(verb.add_option("--prompt", options.prompt, "This message instead of the tasks"))
      ->excludes(tasks);
  keep_option(verb.add_option("--length", options.length, "How much: full, short or quick"))
      ->check(CLI::IsMember({"full", "short", "quick"}))
      ->capture_default_str();
  keep_option(verb.add_option("--runs", options.runs, "Counted runs of each task"))
      ->check(CLI::Range(int64_t{1}, int64_t{10000}));
  keep_option(verb.add_option("--warmups", options.warmups, "Warm-ups of each task, at least"))
      ->check(CLI::Range(int64_t{0}, int64_t{1000}));
  keep_option(verb.add_option("--max-warmups", options.max_warmups,
                              "Warm-ups of each task at most, while the speed still climbs"))
      ->check(CLI::Range(int64_t{0}, int64_t{1000}))
      ->capture_default_str();
  keep_option(verb.add_option("--max_new_tokens,--max-new-tokens,--max-tokens",
                              options.max_new_tokens, "Longest answer in tokens"))
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  keep_option(verb.add_option("--length-locked", options.locked_tokens,
                              "Answers of exactly so many tokens: stop tokens do not end them"))
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  keep_option(list_option(verb, "--concurrency", options.concurrency, int64_t{1}, int64_t{4096},
                          "Load: so many requests under way all the time, each level in turn"));
  keep_option(list_option(verb, "--rate", options.rates_s, 1e-6, 1e6,
                          "Load: requests per second that arrive at random (Poisson)"));
  keep_option(verb.add_option("--requests", options.requests,
                              "Requests of each level; default: 4 for each under way, at least 20"))
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  keep_option(verb.add_option("--slo-ttft", options.slo.ttft_s,
                              "Goodput counts requests whose first token comes within so many s"))
      ->check(CLI::PositiveNumber);
  keep_option(verb.add_option("--slo-tpot", options.slo.tpot_s,
                              "... and whose further tokens take at most so many s each"))
      ->check(CLI::PositiveNumber);
  keep_option(verb.add_flag("--cached-ceilings", options.cached_ceilings,
                            "Take the machine's ceilings of the last day instead of measuring"));
}

void add_server_options(CLI::App& verb, BenchFlags& flags) {
  HttpOptions& http = flags.http;
  auto* url = verb.add_option("--url", http.url,
                              "Measure this OpenAI-compatible server instead: "
                              "http://host:port/v1; a key comes from OPENAI_API_KEY");
  flags.protocol_only.push_back(url->group("Server"));
  auto of_server = [&](CLI::Option* option) {
    flags.protocol_only.push_back(option->needs(url)->group("Server"));
    return option;
  };
  of_server(verb.add_option("--model-name", http.model_name,
                            "The server's name for the model; default: the first it lists"));
  of_server(verb.add_flag("--plain-completions", http.plain,
                          "POST /completions, without a chat template"));
  of_server(verb.add_flag("!--no-nonce", http.nonce,
                          "Do not begin each prompt with a number of its own, which keeps the "
                          "server from answering out of its prefix cache"));
  of_server(verb.add_option("--timeout", http.stall_timeout_s,
                            "Give a request up after so many s without a byte"))
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

void add_grid_options(CLI::App& verb, BenchFlags& flags) {
  GridOptions& grid = flags.grid;
  auto keep_option = [&](CLI::Option* option) {
    flags.grid_only.push_back(option->group("The model alone: prefill and decode"));
    return option;
  };
  constexpr int64_t kLongest = int64_t{1} << 20;
  keep_option(list_option(verb, "--pp", grid.prompt_tokens, int64_t{0}, kLongest,
                          "Prompt lengths in tokens; 0: no prefill; with --tg alone 512"));
  keep_option(list_option(verb, "--tg", grid.generated_tokens, int64_t{0}, kLongest,
                          "Generated tokens; 0: no decode; with --pp alone 64"));
  keep_option(list_option(verb, "--depth", grid.depths, int64_t{0}, kLongest,
                          "Tokens in the cache before; they are filled in, not computed"));
  keep_option(list_option(verb, "--batch", grid.batches, int64_t{1}, int64_t{4096},
                          "Sequences side by side; speeds are of all together"));
  keep_option(
      verb.add_option("--repetitions", grid.repetitions, "Counted runs of each; one more warms up"))
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  keep_option(
      verb.add_flag("--predict", grid.predict,
                    "Also predict each row from a few of the layers, run in turns with it"));
  keep_option(verb.add_option("--trace", grid.trace_path,
                              "Write a trace of one more run, for Perfetto (ui.perfetto.dev)"));
}

// The two ways of measuring do not mix. CLI11's excludes() would say so too, in every line of
// --help.
void refuse_mixture(const BenchFlags& flags) {
  for (const CLI::Option* mine : flags.grid_only) {
    for (const CLI::Option* other : flags.protocol_only) {
      if (mine->count() > 0 && other->count() > 0)
        throw CLI::ExcludesError(mine->get_name(), other->get_name());
    }
  }
}

}  // namespace

void add_bench(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<BenchFlags>();
  SessionOptions& session = flags->options.session;
  CLI::App* verb = app.add_subcommand(
      "bench", "How fast a model answers: the fixed protocol, load, or prefill and decode alone");
  verb->footer(kBenchExamples);
  add_model_options(*verb, session);
  add_memory_options(*verb, session);
  verb->add_option("--layers", session.num_layers,
                   "Cut the model to so many layers, so that a large shape fits; needs "
                   "--random-weights")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16));
  verb->add_option("--seed", flags->options.first_seed,
                   "First seed of the counted runs; of the token ids with --pp and --tg")
      ->capture_default_str();
  verb->add_option("--lang", flags->options.lang, "Language of the prompts and of the report")
      ->check(CLI::IsMember(Strings::languages()))
      ->capture_default_str();
  verb->add_option("--html", flags->html_path, "Write a report with charts to this file, too");
  verb->add_option("--label", flags->options.label, "A name for the record");
  verb->add_flag("--no-history", flags->no_history,
                 "Do not keep the record (quench history), nor score predictions");
  auto* json = verb->add_flag("--json", flags->json, "One JSON object instead of text");
  auto* csv = verb->add_flag("--csv", flags->csv, "One line per run instead of text");
  auto* markdown = verb->add_flag("--md", flags->markdown, "Markdown instead of text");
  json->excludes(csv)->excludes(markdown);
  csv->excludes(markdown);
  add_protocol_options(*verb, *flags);
  add_server_options(*verb, *flags);
  for (CLI::Option* option : add_cost_options(*verb, flags->cost))
    flags->protocol_only.push_back(option);
  add_grid_options(*verb, *flags);
  verb->callback([flags, &chosen] {
    refuse_mixture(*flags);
    chosen = [flags] { return bench(*flags); };
  });
}

}  // namespace quench
