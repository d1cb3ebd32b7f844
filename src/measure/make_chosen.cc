#include "measure/make_chosen.h"

#include <filesystem>

#include "base/file.h"

namespace quench {
namespace {

constexpr const char* kChoiceFile = "choice.json";

// What an interrupted job had measured and chosen, beside its directory; null: there is none.
Json interrupted_choice(const QuantizeOptions& options) {
  if (!options.resume) return {};
  const auto kept = read_json_file(options.out + ".choice.json");
  return kept && kept->is_object() ? *kept : Json();
}

SessionOptions made_session(const QuantizeOptions& options) {
  SessionOptions made = options.session;
  made.model = options.out;
  return made;
}

}  // namespace

Result<ChosenModel> make_chosen(const QuantizeOptions& options, const ChoiceRule& rule,
                                const ChoiceOptions& measuring) {
  QUENCH_TRY(const SessionOptions session, session_for_profile(options.session, options.profile));
  QUENCH_TRY(const Recipe recipe, session_recipe(session));
  // What cannot be made is refused before minutes of measuring.
  QUENCH_TRY_VOID(plan_quantize(options));
  ChosenModel made;
  const Json interrupted = interrupted_choice(options);
  if (auto kept = kept_measurements(interrupted, recipe, rule)) {
    made.choice = *std::move(kept);
  } else {
    QUENCH_TRY(made.choice, measure_formats(options.session, recipe, rule, measuring));
  }
  FormatChoice& choice = made.choice;
  std::optional<size_t> at = choice.next(std::nullopt);
  bool resume = false;
  if (interrupted.is_object()) {
    const std::string format = interrupted.value("chosen", "");
    for (size_t i = 0; i < choice.formats.size(); ++i) {
      if (choice.formats[i].format == format) at = i;
    }
    resume = true;
  }
  const std::string note = options.out + ".choice.json";
  for (;;) {
    MeasuredFormat& candidate = choice.formats[*at];
    choice.chosen = candidate.format;
    QUENCH_TRY_VOID(write_file_atomic(note, choice_json(choice).dump(1) + "\n"));
    QuantizeOptions job_options = options;
    job_options.recipe = recipe;
    job_options.recipe->default_format = candidate.format;
    if (!options.algorithm.empty()) job_options.recipe->algorithm = options.algorithm;
    job_options.resume = resume;
    resume = false;
    QUENCH_TRY(made.job, plan_quantize(job_options));
    QUENCH_TRY(made.report, run_quantize(job_options, made.job));
    if (measuring.progress) measuring.progress("Measuring the loss of " + candidate.format, 0, 1);
    QUENCH_TRY(candidate.kld, measure_kld(options.session, made_session(options), measuring));
    choice.is_in_budget = recipe.kld_budget == 0.0 || candidate.kld->mean <= recipe.kld_budget;
    if (choice.is_in_budget) break;
    const auto next = choice.next(at);
    if (!next) break;
    at = next;
    QUENCH_TRY_VOID(remove_directory(options.out));
  }
  QUENCH_TRY_VOID(
      write_file_atomic(options.out + "/" + kChoiceFile, choice_json(choice).dump(1) + "\n"));
  std::error_code ignored;
  std::filesystem::remove(note, ignored);
  return made;
}

Json kept_choice(const std::string& dir) {
  const auto json = read_json_file(dir + "/" + kChoiceFile);
  return json && json->is_object() ? *json : Json();
}

}  // namespace quench
