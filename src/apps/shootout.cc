// quench shootout: the main job. Quantize a model by several profiles, measure each, compare and
// recommend.
#include <cstdio>
#include <filesystem>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "measure/records.h"
#include "measure/report/shootout_report.h"

namespace quench {
namespace {

constexpr const char* kExamples = R"(Examples:
  quench shootout                                   the model that ships
  quench shootout ~/models/Qwen2.5-0.5B-Instruct --full --out results
  quench shootout --profiles int8,int4_g64,my_recipe.json --json shootout.json)";

struct ShootoutFlags {
  ShootoutOptions options;
  bool quick = false;
  bool full = false;
  std::string json_path;
  std::string markdown_path;
  std::string out_dir;
};

// Where results go; what is printed names it.
Result<void> write_results(const ShootoutFlags& flags, const Shootout& shootout) {
  std::string json_path = flags.json_path;
  std::string markdown_path = flags.markdown_path;
  if (!flags.out_dir.empty()) {
    std::error_code error;
    std::filesystem::create_directories(flags.out_dir, error);
    if (error) {
      return fail(ErrorCode::kIo, "{}: cannot create the directory: {}.", flags.out_dir,
                  error.message());
    }
    if (json_path.empty()) json_path = flags.out_dir + "/shootout.json";
    if (markdown_path.empty()) markdown_path = flags.out_dir + "/report.md";
  }
  const std::string time = utc_time();
  if (!markdown_path.empty()) {
    QUENCH_TRY_VOID(write_file_atomic(markdown_path, shootout_markdown(shootout, time)));
    std::printf("Report:  %s\n", markdown_path.c_str());
  }
  if (!json_path.empty()) {
    const std::string report = std::filesystem::path(markdown_path).filename().string();
    QUENCH_TRY_VOID(
        write_file_atomic(json_path, shootout_json(shootout, time, report).dump(1) + "\n"));
    std::printf("Numbers: %s\n", json_path.c_str());
  }
  return {};
}

Result<void> run(ShootoutFlags flags) {
  install_interrupt_flag();
  if (!flags.out_dir.empty()) flags.options.models_dir = flags.out_dir + "/models";
  // Before minutes of work, not after.
  for (const std::string& path : {flags.json_path, flags.markdown_path}) {
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
  std::fputs(shootout_text(shootout, stdout_takes_style()).c_str(), stdout);
  if (!flags.out_dir.empty() || !flags.json_path.empty() || !flags.markdown_path.empty())
    std::fputc('\n', stdout);
  QUENCH_TRY_VOID(write_results(flags, shootout));
  return done;
}

}  // namespace

void add_shootout(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<ShootoutFlags>();
  ShootoutOptions& options = flags->options;
  CLI::App* verb = app.add_subcommand(
      "shootout", "Compare compression profiles of a model: size, speed, loss, recommendation");
  verb->footer(kExamples);
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
  verb->add_option("--lang", options.lang, "Language of the prompts")
      ->check(CLI::IsMember({"en", "zh"}))
      ->capture_default_str();
  verb->add_option("--seed", options.first_seed, "First seed of the counted runs")
      ->capture_default_str();
  verb->add_option("--json", flags->json_path, "Write all numbers to this file");
  verb->add_option("--markdown", flags->markdown_path, "Write a report to this file");
  verb->add_option("--out", flags->out_dir,
                   "Write shootout.json, report.md and the models to this directory");
  verb->add_option("--isa", options.session.device_options.isa, "Force a CPU instruction-set level")
      ->envname("QUENCH_ISA");
  verb->add_option("--threads", options.session.device_options.num_threads,
                   "Threads; 0: the CPUs this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_memory_options(*verb, options.session);
  verb->callback([flags, &chosen] { chosen = [flags] { return run(*flags); }; });
}

}  // namespace quench
