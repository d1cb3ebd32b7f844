// quench quantize: a model made smaller, on disk.
#include <fmt/ranges.h>

#include <cstdio>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "base/clock.h"
#include "measure/allocate_bits.h"
#include "measure/make_chosen.h"
#include "quantize/estimate_parts.h"
#include "quantize/fit.h"

namespace quench {
namespace {

constexpr const char* kQuantizeExamples = R"(Examples:
  quench quantize demo --profile balanced -o demo-balanced
  quench quantize ~/models/Qwen2.5-7B --format int4 --algorithm gptq -o Qwen2.5-7B-int4
  quench quantize ~/models/Qwen2.5-14B --fit 6GiB --max-seq-len 8192 -o Qwen2.5-14B-6g
  quench quantize ~/models/Qwen2.5-7B --profile compact --dry-run     the plan: bytes per role
  quench quantize ~/models/Qwen2.5-7B --profile compact -o OUT --resume     after an interrupt

A profile is a recipe: which format each role gets, by which algorithm, and how much loss is
accepted. `quench list recipes` and `quench list algorithms` name them. OUT is a model directory
that every verb takes as MODEL.)";

struct QuantizeFlags {
  QuantizeOptions options;
  std::string profile;
  std::string format;
  double bits = 0.0;
  int64_t fit_bytes = 0;
  bool allocate = false;
  bool dry_run = false;
  bool json = false;
};

std::string duration_text(double seconds) {
  if (seconds < 100.0) return fmt::format("{:.0f} s", std::max(seconds, 1.0));
  if (seconds < 100.0 * 60.0) return fmt::format("{:.0f} min", seconds / 60.0);
  return fmt::format("{:.1f} h", seconds / 3600.0);
}

std::string size_text(int64_t bytes) {
  return bytes < 10'000'000'000 ? fmt::format("{:.2f} MB", static_cast<double>(bytes) * 1e-6)
                                : fmt::format("{:.2f} GB", static_cast<double>(bytes) * 1e-9);
}

// How fast it goes, when it will end, how far the codes are from the weights.
std::string progress_detail(const QuantizeOptions::Progress& at, double passed_s) {
  const double rate = static_cast<double>(at.done_bytes) / passed_s;
  const double left_s = static_cast<double>(at.total_bytes - at.done_bytes) / rate;
  return fmt::format("{:.3f} GB/s, {:.0f} s left, relative error {:.4f}", rate * 1e-9, left_s,
                     at.relative_error);
}

void print_plan(const QuantizeJob& job, const std::vector<QuantizedRole>& roles, bool with_errors) {
  std::printf("%-14s %-12s %6s %12s %9s %8s", "role", "format", "count", "MB", "bits", "saved %");
  if (with_errors) std::printf(" %10s", "rel. error");
  std::printf("\n");
  for (const QuantizedRole& role : roles) {
    const double bits = 8.0 * static_cast<double>(role.bytes) / static_cast<double>(role.weights);
    std::printf("%-14s %-12s %6lld %12.2f %9.3f %8.1f", role.role.c_str(), role.format.c_str(),
                static_cast<long long>(role.count), static_cast<double>(role.bytes) * 1e-6, bits,
                100.0 * (1.0 - bits / 16.0));
    if (with_errors && role.squared_norm > 0.0) std::printf(" %10.4f", role.relative_error());
    if (!role.fallback.empty()) std::printf("  (%s)", role.fallback.c_str());
    std::printf("\n");
  }
  std::printf("\n%s: %s by %s, %s of %s as bf16, %.3f bits per weight, saved_fraction %.4f\n",
              job.model->files.name.c_str(), job.recipe.name.c_str(), job.algorithm->name,
              size_text(job.bytes).c_str(), size_text(job.source_bytes).c_str(),
              job.bits_per_weight(), job.saved_fraction());
}

Json plan_json(const QuantizeJob& job, const std::vector<QuantizedRole>& roles) {
  Json rows = Json::array();
  for (const QuantizedRole& role : roles) {
    rows.push_back(
        {{"role", role.role},
         {"format", role.format},
         {"count", role.count},
         {"weights", role.weights},
         {"bytes", role.bytes},
         {"fallback", role.fallback.empty() ? Json() : Json(role.fallback)},
         {"relative_error", role.squared_norm > 0.0 ? Json(role.relative_error()) : Json()}});
  }
  return {{"schema", "quench.quantize/1"},
          {"model", job.model->files.name},
          {"recipe", job.recipe.name},
          {"algorithm", job.algorithm->name},
          {"bytes", job.bytes},
          {"source_bytes", job.source_bytes},
          {"bits_per_weight", job.bits_per_weight()},
          {"saved_fraction", job.saved_fraction()},
          {"roles", rows}};
}

Json report_json(const QuantizeOptions& options, const QuantizeJob& job,
                 const QuantizeReport& report, const Json& choice) {
  Json json = plan_json(job, report.roles);
  json["out"] = options.out;
  json["seconds"] = report.seconds;
  json["times"] = report.times.json();
  json["choice"] = choice;
  json["calibration_tokens"] = report.calibration_tokens;
  json["calibration_sha256"] =
      report.calibration_sha256.empty() ? Json() : Json(report.calibration_sha256);
  json["fallbacks"] = Json::array();
  for (const auto& [tensor, reason] : report.fallbacks)
    json["fallbacks"].push_back({{"tensor", tensor}, {"reason", reason}});
  return json;
}

void print_report(const QuantizeOptions& options, const QuantizeJob& job,
                  const QuantizeReport& report, const Json& choice) {
  if (!choice.is_null()) std::printf("%s\n", choice_text(choice).c_str());
  print_plan(job, report.roles, true);
  if (report.calibration_tokens > 0) {
    std::printf("Calibrated on %lld tokens.\n", static_cast<long long>(report.calibration_tokens));
  }
  if (!report.fallbacks.empty()) {
    std::printf("Rounded to nearest instead: %zu matrices, the first %s: %s\n",
                report.fallbacks.size(), report.fallbacks.front().tensor.c_str(),
                report.fallbacks.front().reason.c_str());
  }
  if (report.resumed_units > 0) {
    std::printf("%lld units were finished by an earlier run.\n",
                static_cast<long long>(report.resumed_units));
  }
  if (const std::string times = report.times.text(); !times.empty())
    std::printf("Time: %s.\n", times.c_str());
  std::printf("Wrote %s in %.1f s; try: quench run %s\n", options.out.c_str(), report.seconds,
              options.out.c_str());
}

// What of a profile's recipe is chosen by measuring; not of drawn weights, whose loss says nothing.
Result<std::optional<ChoiceRule>> choice_rule(const QuantizeFlags& flags) {
  if (flags.profile.empty() || flags.options.session.random_weights) return std::nullopt;
  QUENCH_TRY(const SessionOptions session,
             session_for_profile(flags.options.session, flags.profile));
  return choice_rule_of(session);
}

Result<void> show_plan(const QuantizeFlags& flags, const QuantizeJob& job) {
  const std::vector<QuantizedRole> roles = planned_roles(job);
  QUENCH_TRY(const QuantizeEstimate estimate, estimate_quantize(flags.options, job));
  if (flags.json) {
    Json json = plan_json(job, roles);
    json["estimate"] = {{"calibration_tokens", estimate.calibration_tokens},
                        {"peak_bytes", estimate.peak_bytes},
                        {"seconds", estimate.seconds}};
    std::printf("%s\n", json.dump(1).c_str());
    return {};
  }
  print_plan(job, roles, false);
  std::printf("It will take %s of memory at most and about %s%s.\n",
              size_text(estimate.peak_bytes).c_str(), duration_text(estimate.seconds).c_str(),
              estimate.calibration_tokens == 0
                  ? ""
                  : fmt::format(", on {} tokens of text", estimate.calibration_tokens).c_str());
  QUENCH_TRY(const auto rule, choice_rule(flags));
  if (rule) {
    std::printf("The format is chosen by measurement, of %s; this is the plan without it.\n",
                fmt::format("{}", fmt::join(rule->formats, ", ")).c_str());
  }
  return {};
}

Result<void> run_quantize(QuantizeFlags flags) {
  QuantizeOptions& options = flags.options;
  const int given = (flags.profile.empty() ? 0 : 1) + (flags.format.empty() ? 0 : 1) +
                    (flags.bits > 0.0 ? 1 : 0) + (flags.fit_bytes > 0 ? 1 : 0);
  if (given != 1) {
    return fail(ErrorCode::kInvalidArgument,
                "Give one of --profile (a recipe), --format, --bits and --fit; quench list recipes "
                "and quench list formats name the first two.");
  }
  const bool has_budget = flags.bits > 0.0 || flags.fit_bytes > 0;
  if (flags.allocate && !has_budget) {
    return fail(ErrorCode::kInvalidArgument,
                "--allocate distributes a budget of bits: give --bits or --fit with it.");
  }
  if (flags.allocate && options.session.random_weights) {
    return fail(ErrorCode::kInvalidArgument,
                "--allocate measures loss, which drawn weights have none of.");
  }
  if (has_budget) {
    QUENCH_TRY(options.recipe, recipe_within(options, {flags.bits, flags.fit_bytes}));
    QUENCH_TRY(const auto stored, plan_model(options.session, Weights::kRequired));
    if (stored->plan.total_bytes() <= flags.fit_bytes) {
      std::fprintf(
          stderr, "quench: %s fits as it is, in %.4g GB; made smaller it loses something.\n",
          stored->files.name.c_str(), static_cast<double>(stored->plan.total_bytes()) * 1e-9);
    }
  }
  options.profile = flags.profile.empty() ? flags.format : flags.profile;
  if (options.out.empty() && !flags.dry_run) {
    return fail(ErrorCode::kInvalidArgument,
                "Where shall the model be written? Give -o DIR, or --dry-run for the plan alone.");
  }
  QUENCH_TRY(QuantizeJob job, plan_quantize(options));
  if (flags.dry_run) return show_plan(flags, job);
  install_interrupt_flag();
  options.stop = &interrupt_flag();
  ProgressLine line;
  const double start_s = now_s();
  options.progress = [&](const QuantizeOptions::Progress& at) {
    line.show(at.unit, at.done_bytes, at.total_bytes, progress_detail(at, now_s() - start_s));
  };
  QUENCH_TRY(const auto rule, choice_rule(flags));
  Json choice, allocation;
  QuantizeReport report;
  ChoiceOptions measuring;
  measuring.stop = options.stop;
  measuring.progress = [&](const std::string& stage, int64_t done, int64_t total) {
    line.show(stage, done, total);
  };
  if (flags.allocate) {
    QUENCH_TRY(AllocatedModel made, make_allocated(options, *options.recipe, measuring));
    job = std::move(made.job);
    report = std::move(made.report);
    allocation = allocation_json(made.allocation);
  } else if (rule) {
    QUENCH_TRY(ChosenModel chosen, make_chosen(options, *rule, measuring));
    job = std::move(chosen.job);
    report = std::move(chosen.report);
    choice = choice_json(chosen.choice);
  } else {
    QUENCH_TRY(report, run_quantize(options, job));
  }
  line.clear();
  if (flags.json) {
    Json json = report_json(options, job, report, choice);
    json["allocation"] = allocation;
    std::printf("%s\n", json.dump(1).c_str());
  } else {
    if (!allocation.is_null()) std::printf("%s\n", allocation_text(allocation).c_str());
    print_report(options, job, report, choice);
  }
  return {};
}

}  // namespace

void add_quantize(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<QuantizeFlags>();
  QuantizeOptions& options = flags->options;
  CLI::App* verb = app.add_subcommand("quantize", "Make a model smaller, on disk");
  verb->footer(kQuantizeExamples);
  verb->add_option("MODEL", options.session.model,
                   "Model directory; \"demo\" is the model that ships")
      ->capture_default_str();
  verb->add_flag("--random-weights", options.session.random_weights,
                 "Seeded weights in the shape of MODEL (a directory or an official name)");
  verb->add_option("--layers", options.session.num_layers,
                   "Only the first N layers, with --random-weights")
      ->check(CLI::PositiveNumber);
  verb->add_option("--profile,--recipe", flags->profile, "A recipe: a name, or the path of a file");
  verb->add_option("--format", flags->format, "One format for all matrices");
  verb->add_option("--bits", flags->bits,
                   "Bits per weight of the whole model, fractions allowed: 3.2")
      ->check(CLI::Range(1.0, 16.0));
  verb->add_option("--fit", flags->fit_bytes,
                   "The best that runs in so much memory with --max-seq-len tokens: 12GiB")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::PositiveNumber);
  verb->add_flag(
      "--allocate", flags->allocate,
      "With --bits or --fit: measure what each role of each layer costs in loss and give "
      "the bits where they help most; kept if that is better on other text");
  add_memory_options(*verb, options.session);
  verb->add_option("--layout", options.layout,
                   "Files as other programs read them: gptq, awq, ... (quench list layouts)")
      ->capture_default_str();
  verb->add_option("--algorithm", options.algorithm, "Instead of the recipe's; default rtn");
  verb->add_flag("--rotate", options.rotate,
                 "Quantize in a rotated basis, which spreads outliers over all columns");
  verb->add_option("--calibration", options.calibration,
                   "Text file or directory (default: the texts that ship)");
  verb->add_option("--calibration-tokens", options.calibration_tokens,
                   "Use at most so many tokens of each of its files; 0: all")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("-o,--out", options.out, "The new model directory");
  verb->add_flag("--resume", options.resume, "Go on with an interrupted job");
  verb->add_flag("--dry-run", flags->dry_run, "Print the plan and write nothing");
  verb->add_flag("--json", flags->json, "One JSON object on stdout");
  add_device_options(*verb, options.session.device, options.session.device_options);
  verb->callback([flags, &chosen] { chosen = [flags] { return run_quantize(*flags); }; });
}

}  // namespace quench
