// quench explain: why a number is what it is. Without a claim a run here is measured and explained;
// with --model, a number that the user already has is judged by arithmetic and published rows.
#include <cstdio>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "measure/analyze/explain.h"
#include "measure/analyze/live.h"
#include "measure/analyze/quantity.h"
#include "measure/analyze/score.h"
#include "measure/analyze/together.h"
#include "measure/records.h"

namespace quench {
namespace {

constexpr const char* kExplainExamples = R"~(Examples:
  quench explain                       what limits the demo model here, proven by experiments
  quench explain Qwen2.5-7B --random-weights --layers 2 --format int8
  quench explain demo --with demo      two at once: what each loses, and what isolation gives
  quench explain --model Qwen-14B --device A800 --precision bf16 --engine transformers --latency 7s --tokens 20
  quench explain --device A800 --engine transformers --model Qwen-7B --latency 0.5s --model Qwen-14B --latency 7s --tflops 19.5 --lang zh
  quench explain --model Qwen2.5-72B --precision gptq-int4 --engine "vLLM 0.6.3" --device A100 --tok-s 16.47
  quench explain --model Qwen2.5-0.5B --precision awq --engine transformers --device A100 --memory-gb 0.73)~";

struct ExplainFlags {
  std::vector<std::string> models, precisions, engines, latencies;
  std::vector<double> tokens, tok_s, memory_gb;
  std::string device, rows_path;
  double tflops = 0.0;
  std::optional<double> prompt_tokens;
  int64_t batch = 1;
  int64_t devices = 1;
  bool json = false;
  std::string lang = "en";
  LiveOptions live;
  std::string with, with_format;
};

// Without a length, a short answer's is assumed.
constexpr double kAssumedTokens = 20.0;
// A speed without lengths is taken as the published tables have it.
constexpr double kTableTokens = 2048.0;

// The i-th of as many values as there are claims, the only one of one, or none.
template <class T>
Result<std::optional<T>> pick(const std::vector<T>& values, size_t i, size_t claims,
                              const char* flag) {
  if (values.empty()) return std::optional<T>();
  if (values.size() != 1 && values.size() != claims) {
    return fail(ErrorCode::kInvalidArgument,
                "{} was given {} times for {} models; give it once for "
                "all or once for each.",
                flag, values.size(), claims);
  }
  return std::optional<T>(values.size() == 1 ? values.front() : values[i]);
}

Result<Claim> read_claim(const ExplainFlags& flags, const Predictor& predictor,
                         const Hardware& device, size_t i) {
  const size_t n = flags.models.size();
  QUENCH_TRY(const auto engine, pick(flags.engines, i, n, "--engine"));
  QUENCH_TRY(const auto precision, pick(flags.precisions, i, n, "--precision"));
  QUENCH_TRY(const auto latency, pick(flags.latencies, i, n, "--latency"));
  QUENCH_TRY(const auto tokens, pick(flags.tokens, i, n, "--tokens"));
  Claim claim;
  claim.engine_text = engine.value_or("transformers");
  QUENCH_TRY(claim.placement,
             predictor.setup(flags.models[i], claim.engine_text, precision.value_or(""), device));
  QUENCH_TRY(claim.tok_s, pick(flags.tok_s, i, n, "--tok-s"));
  QUENCH_TRY(const auto memory_gb, pick(flags.memory_gb, i, n, "--memory-gb"));
  if (memory_gb) claim.memory_bytes = *memory_gb * 1e9;
  if (latency) {
    QUENCH_TRY(claim.latency_s, parse_seconds(*latency, "--latency"));
  }
  claim.has_tokens = tokens.has_value();
  claim.placement.output_tokens = tokens.value_or(latency ? kAssumedTokens : kTableTokens);
  claim.placement.prompt_tokens = flags.prompt_tokens.value_or(1.0);
  claim.placement.batch = static_cast<double>(flags.batch);
  claim.placement.devices = flags.devices;
  return claim;
}

Result<void> explain(const ExplainFlags& flags) {
  std::vector<PublishedRow> extra;
  if (!flags.rows_path.empty()) {
    QUENCH_TRY(const std::string text, read_file(flags.rows_path));
    QUENCH_TRY(extra, parse_published(text, flags.rows_path));
  }
  QUENCH_TRY(const Predictor predictor, Predictor::load(extra));
  QUENCH_TRY(const Hardware device, find_hardware(flags.device));
  std::vector<Claim> claims;
  for (size_t i = 0; i < flags.models.size(); ++i) {
    QUENCH_TRY(Claim claim, read_claim(flags, predictor, device, i));
    claims.push_back(std::move(claim));
  }
  QUENCH_TRY(ExplainReport report, explain_claims(predictor, std::move(claims)));
  if (flags.tflops > 0.0) report.peak = check_peak(device, flags.tflops);
  if (flags.json) {
    print_json(explain_json(report));
  } else {
    std::fputs(explain_text(report, Strings::of(flags.lang)).c_str(), stdout);
  }
  return {};
}

LiveLimits lengths_of(const ExplainFlags& flags) {
  LiveLimits lengths = flags.live.lengths;
  lengths.batch = flags.batch;
  if (flags.prompt_tokens) lengths.prompt_tokens = static_cast<int64_t>(*flags.prompt_tokens);
  return lengths;
}

// What the prediction was is said before it is measured.
template <class Options>
void report_to(ProgressLine& line, Options& options) {
  install_interrupt_flag();
  options.stop = &interrupt_flag();
  options.progress = [&line](const std::string& stage, int64_t done, int64_t total) {
    line.show(stage, done, total);
  };
  options.say = [&line](const std::string& text) {
    line.clear();
    std::fprintf(stderr, "%s\n", text.c_str());
  };
}

Result<void> explain_run(const ExplainFlags& flags) {
  LiveOptions options = flags.live;
  options.lengths = lengths_of(flags);
  options.lang = flags.lang;
  ProgressLine line(true);
  report_to(line, options);
  const auto report = explain_here(std::move(options));
  line.clear();
  if (!report) return tl::unexpected(report.error());
  const std::string scores =
      score_text({measurement_of(*report, utc_time())}, Strings::of(flags.lang));
  if (flags.json) {
    print_json(live_json(*report));
  } else {
    std::fputs((live_text(*report, Strings::of(flags.lang)) + scores).c_str(), stdout);
  }
  return {};
}

// Another model beside it, in a process of its own.
Result<void> explain_both(const ExplainFlags& flags) {
  TogetherOptions options;
  options.a = flags.live.session;
  options.b = flags.live.session;
  options.b.model = flags.with;
  if (!flags.with_format.empty()) {
    options.b.format.clear();
    options.b.recipe_path.clear();
    QUENCH_TRY(options.b, session_for_profile(options.b, flags.with_format));
  }
  options.lengths = lengths_of(flags);
  options.budget_s = flags.live.budget_s;
  options.lang = flags.lang;
  ProgressLine line(true);
  report_to(line, options);
  const auto report = explain_together(options);
  line.clear();
  if (!report) return tl::unexpected(report.error());
  if (flags.json) {
    print_json(together_json(*report));
  } else {
    std::fputs(together_text(*report, Strings::of(flags.lang)).c_str(), stdout);
  }
  return {};
}

void add_claim_options(CLI::App& verb, ExplainFlags& flags) {
  auto claim = [](CLI::Option* option) { return option->group("A number to judge"); };
  auto* models = claim(verb.add_option("--model", flags.models,
                                       "Official name or directory; twice to compare two claims"))
                     ->allow_extra_args(false);
  auto* device =
      claim(verb.add_option("--device", flags.device, "A device of `quench list hardware`"));
  models->needs(device);
  auto of_claim = [&](CLI::Option* option) { return claim(option)->needs(models); };
  auto many = [&](const char* name, auto& values, const char* help) {
    return of_claim(verb.add_option(name, values, help)->allow_extra_args(false));
  };
  device->needs(models);
  many("--precision", flags.precisions, "bf16, fp8, gptq-int8, gptq-int4, awq, bnb-int8, ...");
  many("--engine", flags.engines, "transformers, vllm, sglang, llama.cpp, ..., with a version");
  many("--latency", flags.latencies, "Of one whole request: 7s, 500ms");
  many("--tokens", flags.tokens, "Generated in it")->check(CLI::Range(1.0, 1e7));
  many("--tok-s", flags.tok_s, "Generated tokens per second")->check(CLI::Range(1e-6, 1e9));
  many("--memory-gb", flags.memory_gb, "Memory in 1e9 bytes")->check(CLI::Range(1e-3, 1e6));
  of_claim(verb.add_option("--devices", flags.devices, "Devices it runs on"))
      ->check(CLI::Range(1, 64));
  of_claim(verb.add_option("--tflops", flags.tflops, "A claimed 16-bit peak of the device"))
      ->check(CLI::Range(0.0, 1e6));
  of_claim(verb.add_option("--rows", flags.rows_path, "More measured rows, as for quench plan"));
}

// Those that say nothing about a claim.
std::vector<const CLI::Option*> run_options(const CLI::App& verb) {
  std::vector<const CLI::Option*> options;
  for (const char* name :
       {"MODEL", "--random-weights", "--weights-seed", "--format", "--recipe", "--threads",
        "--no-pin", "--layers", "--depth", "--budget", "--with", "--with-format"})
    options.push_back(verb.get_option(name));
  return options;
}

}  // namespace

void add_explain(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<ExplainFlags>();
  CLI::App* verb = app.add_subcommand(
      "explain", "What limits a run here, proven by experiments; or is a number plausible");
  verb->footer(kExplainExamples);
  LiveOptions& live = flags->live;
  add_weights_options(*verb, live.session);
  add_team_options(*verb, live.session.device_options);
  verb->add_option("--layers", live.session.num_layers,
                   "Cut the model to so many layers; needs --random-weights")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16));
  constexpr int64_t kLongest = int64_t{1} << 20;
  verb->add_option("--depth", live.lengths.depth, "Tokens in the cache before decoding")
      ->check(CLI::Range(int64_t{0}, kLongest))
      ->capture_default_str();
  verb->add_option("--budget", live.budget_s, "Seconds for measuring, once the model is loaded")
      ->check(CLI::Range(1.0, 3600.0))
      ->capture_default_str();
  auto* with = verb->add_option("--with", flags->with,
                                "Another model at the same time: what each loses, and why");
  verb->add_option("--with-format", flags->with_format,
                   "Its format, recipe or recipe file; without, that of MODEL")
      ->needs(with);
  verb->add_option("--prompt", flags->prompt_tokens, "Tokens of the prompt; 256 here, 1 of a claim")
      ->check(CLI::Range(1.0, static_cast<double>(kLongest)));
  verb->add_option("--batch", flags->batch, "Requests at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "One JSON object instead of text");
  verb->add_option("--lang", flags->lang, "Language of the text")
      ->check(CLI::IsMember(Strings::languages()))
      ->capture_default_str();
  add_claim_options(*verb, *flags);
  const std::vector<const CLI::Option*> run_only = run_options(*verb);
  verb->callback([flags, run_only, &chosen] {
    if (flags->models.empty()) {
      chosen = [flags] { return flags->with.empty() ? explain_run(*flags) : explain_both(*flags); };
      return;
    }
    for (const CLI::Option* option : run_only) {
      if (option->count() > 0) throw CLI::ExcludesError("--model", option->get_name());
    }
    chosen = [flags] { return explain(*flags); };
  });
}

}  // namespace quench
