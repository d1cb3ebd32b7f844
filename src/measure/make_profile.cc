#include "measure/make_profile.h"

#include <algorithm>
#include <filesystem>

#include "base/clock.h"
#include "base/file.h"
#include "measure/make_chosen.h"

namespace quench {
namespace {

bool needs_quantizing(const Recipe& recipe) {
  if (recipe.algorithm != "rtn" || recipe.rotate) return true;
  const auto is_trellis = [](const std::string& name) {
    const Format* format = find_format(name);
    return format != nullptr && format->trellis != nullptr;
  };
  const std::set<std::string> formats = recipe.formats();
  return std::any_of(formats.begin(), formats.end(), is_trellis);
}

// Whether the directory holds what this recipe would make.
Result<bool> is_made(const std::string& dir, const Recipe& recipe) {
  if (!is_directory(dir)) return false;
  QUENCH_TRY(const Json config, read_json_file(dir + "/config.json"));
  const Json method = config.value("quantization_config", Json::object());
  const Json made = method.is_object() ? method.value("quench", Json::object()) : Json::object();
  if (made.is_object() && made.value("recipe", "") == recipe.name &&
      made.value("algorithm", "") == recipe.algorithm &&
      made.value("rotated", false) == recipe.rotate)
    return true;
  return fail(ErrorCode::kInvalidArgument,
              "{}: it exists and was not made by the recipe {}; remove it, or give another --out.",
              dir, recipe.name);
}

}  // namespace

Result<MadeProfile> make_profile(const SessionOptions& session, const std::string& profile,
                                 const std::string& dir, const std::atomic<bool>* stop,
                                 const MakeProgress& progress) {
  QUENCH_TRY(const Recipe recipe, session_recipe(session));
  if (!needs_quantizing(recipe)) return MadeProfile{session, 0.0, {}};
  MadeProfile made;
  made.session = session;
  made.session.format.clear();
  made.session.recipe_path.clear();
  made.session.random_weights = false;
  made.session.num_layers = 0;
  made.session.model = fmt::format("{}/{}", dir, std::filesystem::path(profile).stem().string());
  QUENCH_TRY(const bool is_there, is_made(made.session.model, recipe));
  if (is_there) {
    made.choice = kept_choice(made.session.model);
    return made;
  }
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) {
    return fail(ErrorCode::kIo, "{}: cannot create the directory: {}.", dir, error.message());
  }
  QuantizeOptions options;
  options.session = session;
  options.session.format.clear();
  options.session.recipe_path.clear();
  options.profile = profile;
  options.out = made.session.model;
  options.resume = is_directory(made.session.model + ".partial");
  options.stop = stop;
  options.progress = [&](const QuantizeOptions::Progress& at) {
    if (progress)
      progress(fmt::format("Quantizing {}: {}", profile, at.unit), at.done_bytes, at.total_bytes);
  };
  QUENCH_TRY(const auto rule, choice_rule_of(session));
  if (rule) {
    const double start_s = now_s();
    ChoiceOptions measuring;
    measuring.stop = stop;
    measuring.progress = [&](const std::string& stage, int64_t done, int64_t total) {
      if (progress) progress(fmt::format("Choosing {}: {}", profile, stage), done, total);
    };
    QUENCH_TRY(const ChosenModel chosen, make_chosen(options, *rule, measuring));
    made.choice = choice_json(chosen.choice);
    made.make_s = now_s() - start_s;
    return made;
  }
  QUENCH_TRY(QuantizeJob job, plan_quantize(options));
  QUENCH_TRY(const QuantizeReport report, run_quantize(options, job));
  made.make_s = report.seconds;
  return made;
}

}  // namespace quench
