// quench shootout: the main job. Quantize a model by several profiles, measure each, compare and
// recommend.
#include <cctype>
#include <cstdio>
#include <filesystem>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "base/paths.h"
#include "measure/analyze/measured_cost.h"
#include "measure/analyze/score.h"
#include "measure/history.h"
#include "measure/records.h"
#include "measure/report/shootout_report.h"
#include "measure/report/table.h"

namespace quench {
namespace {

constexpr const char* kShootoutExamples = R"(Examples:
  quench shootout                                   the model that ships
  quench shootout ~/models/Qwen2.5-0.5B-Instruct --full --out results
  quench shootout --profiles int8,int4_g64,my_recipe.json --json shootout.json)";

struct ShootoutFlags {
  ShootoutOptions options;
  bool quick = false;
  bool full = false;
  std::string json_path;
  std::string markdown_path;
  std::string html_path;
  std::string out_dir;
  CostWishes cost;
  bool no_history = false;
};

Result<void> create_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return {};
  return fail(ErrorCode::kIo, "{}: cannot create the directory: {}.", path, error.message());
}

// A name that is a file name everywhere: "shootout-demo-20260131T123456Z".
std::string report_name(const std::string& model, const std::string& time) {
  std::string name = "shootout-";
  for (const char c : model)
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' ? c : '-';
  name += '-';
  for (const char c : time) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) name += c;
  }
  return name;
}

// Sets the paths that no flag has set: in --out, else the page and its numbers among the user's
// data, so that the current directory stays as it is and nothing that took minutes is lost.
Result<void> choose_paths(ShootoutFlags& flags, const std::string& name) {
  std::string base = flags.out_dir;
  if (!base.empty()) {
    QUENCH_TRY_VOID(create_directory(base));
    if (flags.markdown_path.empty()) flags.markdown_path = base + "/report.md";
    if (flags.html_path.empty()) flags.html_path = base + "/report.html";
    if (flags.json_path.empty()) flags.json_path = base + "/shootout.json";
  } else if (flags.html_path.empty()) {
    QUENCH_TRY(base, user_data_path("reports"));
    QUENCH_TRY_VOID(create_directory(base));
    flags.html_path = base + "/" + name + ".html";
    if (flags.json_path.empty()) flags.json_path = base + "/" + name + ".json";
  }
  return {};
}

// What is printed names every file.
Result<void> write_results(ShootoutFlags flags, const Shootout& shootout, const std::string& time,
                           const Strings& strings) {
  const bool must_write = !flags.out_dir.empty();
  const auto chosen = choose_paths(flags, report_name(shootout.rows.front().model.name, time));
  if (!chosen && must_write) return chosen;
  // A home that cannot be written to is no reason to fail: the results are on the screen.
  if (!chosen) std::fprintf(stderr, "quench: No report: %s\n", chosen.error().message.c_str());
  const std::string report = std::filesystem::path(flags.html_path).filename().string();
  Json json = shootout_json(shootout, time, report);
  QUENCH_TRY_VOID(add_cost(flags.cost, json));
  if (!flags.no_history) {
    for (const Json& record : json["records"]) {
      const auto kept = keep_in_history(record);
      if (!kept) std::fprintf(stderr, "quench: %s\n", kept.error().message.c_str());
      if (const auto measurement = measurement_of(record)) {
        const std::string scores = score_text({*measurement}, strings);
        if (!scores.empty()) std::printf("%s: %s", measurement->key.format.c_str(), scores.c_str());
      }
    }
  }
  if (!flags.markdown_path.empty()) {
    QUENCH_TRY_VOID(write_file_atomic(flags.markdown_path, shootout_markdown(json, strings)));
    std::printf("%s%s\n", padded(strings("written.markdown"), 9, Align::kLeft).c_str(),
                flags.markdown_path.c_str());
  }
  if (!flags.json_path.empty()) {
    QUENCH_TRY_VOID(write_file_atomic(
        flags.json_path, json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n"));
    std::printf("%s%s\n", padded(strings("written.numbers"), 9, Align::kLeft).c_str(),
                flags.json_path.c_str());
  }
  if (!flags.html_path.empty()) {
    QUENCH_TRY_VOID(write_file_atomic(flags.html_path, shootout_html(json, strings)));
    std::printf("%s%s\n", padded(strings("written.report"), 9, Align::kLeft).c_str(),
                flags.html_path.c_str());
  }
  return {};
}

Result<void> run_shootout(ShootoutFlags flags) {
  install_interrupt_flag();
  if (!flags.out_dir.empty()) flags.options.models_dir = flags.out_dir + "/models";
  // Before minutes of work, not after.
  QUENCH_TRY_VOID(check_cost_wishes(flags.cost));
  for (const std::string& path : {flags.json_path, flags.markdown_path, flags.html_path}) {
    if (!path.empty()) QUENCH_TRY_VOID(check_output_path(path));
  }
  ProgressLine line;
  flags.options.length = flags.quick ? "quick" : flags.full ? "full" : "short";
  flags.options.stop = &interrupt_flag();
  flags.options.progress = [&](const std::string& stage, int64_t done, int64_t total) {
    line.show(stage, done, total);
  };
  Shootout shootout;
  const Result<void> done = run_shootout(flags.options, shootout);
  line.clear();
  const bool has_runs = !shootout.rows.empty() && !shootout.rows.front().runs.empty();
  if (!done && (done.error().code != ErrorCode::kCancelled || !has_runs)) return done;
  const Strings& strings = Strings::of(flags.options.lang);
  const std::string time = utc_time();
  Json shown = shootout_json(shootout, time, "");
  QUENCH_TRY_VOID(add_cost(flags.cost, shown));
  std::printf("%s\n", shootout_text(shown, strings, stdout_takes_style()).c_str());
  QUENCH_TRY_VOID(write_results(flags, shootout, time, strings));
  return done;
}

}  // namespace

void add_shootout(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<ShootoutFlags>();
  ShootoutOptions& options = flags->options;
  CLI::App* verb = app.add_subcommand(
      "shootout", "Compare compression profiles of a model: size, speed, loss, recommendation");
  verb->footer(kShootoutExamples);
  verb->add_option("MODEL", options.session.model,
                   "Model directory; \"demo\" is the model that ships")
      ->capture_default_str();
  auto* quick = verb->add_flag("--quick", flags->quick, "The fewest runs: a first look");
  verb->add_flag("--full", flags->full,
                 "The whole protocol: 3 warm-ups, 10 counted runs, all texts")
      ->excludes(quick);
  verb->add_option("--profiles", options.profiles,
                   "Recipes, recipe files or formats: a,b,c (default: compact,fast,balanced)")
      ->delimiter(',');
  verb->add_option("--text", options.text_path,
                   "Text file or directory for the loss (default: the texts that ship)");
  verb->add_option("--kld-budget", options.rules.kld_budget,
                   "Accepted loss: mean KL divergence in nats per token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--lang", options.lang, "Language of the prompts and of the report")
      ->check(CLI::IsMember({"en", "zh"}))
      ->capture_default_str();
  verb->add_option("--seed", options.first_seed, "First seed of the counted runs")
      ->capture_default_str();
  verb->add_option("--json", flags->json_path, "Write all numbers to this file");
  verb->add_option("--html", flags->html_path,
                   "Write the report with charts to this file (default: quench/reports in "
                   "XDG_DATA_HOME or ~/.local/share, with its numbers)");
  verb->add_option("--markdown", flags->markdown_path, "Write a report as Markdown to this file");
  verb->add_option("--out", flags->out_dir,
                   "Write report.html, report.md, shootout.json and the models to this directory");
  verb->add_flag("--no-history", flags->no_history,
                 "Do not keep the measurements (quench history)");
  verb->add_option("--isa", options.session.device_options.isa, "Force a CPU instruction-set level")
      ->envname("QUENCH_ISA");
  verb->add_option("--threads", options.session.device_options.num_threads,
                   "Threads; 0: the CPUs this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_memory_options(*verb, options.session);
  add_cost_options(*verb, flags->cost);
  verb->callback([flags, &chosen] { chosen = [flags] { return run_shootout(*flags); }; });
}

}  // namespace quench
