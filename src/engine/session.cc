#include "engine/session.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/paths.h"
#include "engine/stop.h"
#include "text/detokenizer.h"

namespace quench {
namespace {

// A recipe file, or the name of one that ships.
Result<std::string> find_recipe(const std::string& recipe) {
  if (file_exists(recipe)) return recipe;
  QUENCH_TRY(const std::string folder, data_path("recipes"));
  const std::string shipped = fmt::format("{}/{}.json", folder, recipe);
  if (recipe.find('/') == std::string::npos && file_exists(shipped)) return shipped;
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return fail(ErrorCode::kNotFound,
              "\"{}\" is neither a recipe file nor a recipe that ships; those are {}.", recipe,
              fmt::join(names, ", "));
}

// A quarter of the machine is left to the rest of the world.
constexpr double kMemoryShare = 0.75;

Result<void> cut_layers(const SessionOptions& options, ModelConfig& config) {
  if (options.num_layers == 0) return {};
  if (!options.random_weights) {
    return fail(
        ErrorCode::kInvalidArgument,
        "A model is cut in depth only with --random-weights; add it, or leave out --layers.");
  }
  if (options.num_layers > config.num_hidden_layers) {
    return fail(ErrorCode::kInvalidArgument, "--layers is {}, but the model has {}.",
                options.num_layers, config.num_hidden_layers);
  }
  config.num_hidden_layers = options.num_layers;
  config.windows.resize(static_cast<size_t>(options.num_layers));
  if (config.moe.num_experts > 0)
    config.moe.sparse_layers.resize(static_cast<size_t>(options.num_layers));
  return {};
}

}  // namespace

Result<Recipe> session_recipe(const SessionOptions& options) {
  if (options.recipe) return *options.recipe;
  if (options.recipe_path.empty()) return recipe_for_format(options.format);
  if (!options.format.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "--format and --recipe say the same thing twice; give one of them.");
  }
  QUENCH_TRY(const std::string path, find_recipe(options.recipe_path));
  QUENCH_TRY(const Json json, read_json_file(path));
  return parse_recipe(json, path);
}

Result<SessionOptions> session_for_profile(const SessionOptions& reference,
                                           const std::string& profile) {
  SessionOptions session = reference;
  if (profile.ends_with(".json")) {
    session.recipe_path = profile;
    return session;
  }
  const bool is_name = profile.find('/') == std::string::npos;
  if (const auto path = data_path(fmt::format("recipes/{}.json", profile)); is_name && path) {
    session.recipe_path = *path;
    return session;
  }
  if (find_format(profile) == nullptr) {
    return fail(
        ErrorCode::kNotFound,
        "There is no recipe and no format \"{}\"; quench list names them, and the path of a "
        "recipe file is good too.",
        profile);
  }
  session.format = profile;
  return session;
}

Result<SessionOptions> to_session_options(const EngineOptions& options) {
  SessionOptions session;
  session.model = options.model;
  session.random_weights = options.random_weights;
  session.weights_seed = options.weights_seed;
  session.format = options.format;
  session.recipe_path = options.recipe;
  session.device = options.device;
  session.device_options = {options.isa, options.threads};
  session.goal.max_batch_size = options.max_batch_size;
  session.goal.max_seq_len = options.max_seq_len;
  session.goal.max_step_tokens = options.max_step_tokens;
  session.goal.kv_tokens = options.kv_tokens;
  session.goal.max_draft_tokens = options.speculation;
  session.pack_late = true;
  QUENCH_TRY(session.goal.kv_type, kv_type_by_name(options.kv_format));
  return session;
}

Result<std::unique_ptr<PlannedModel>> plan_model(const SessionOptions& options, Weights need) {
  QUENCH_TRY(PlanGoal goal, Result<PlanGoal>(options.goal));
  QUENCH_TRY(goal.recipe, session_recipe(options));
  if (goal.memory_bytes == 0) {
    goal.memory_bytes =
        static_cast<int64_t>(kMemoryShare * static_cast<double>(physical_memory_bytes()));
  }
  auto planned = std::make_unique<PlannedModel>();
  QUENCH_TRY(planned->files,
             ModelFiles::find(options.model, options.random_weights ? Weights::kIgnored : need,
                              options.random_weights));
  const int64_t num_layers = planned->files.config.num_hidden_layers;
  if (const auto& layers = goal.recipe.layer_formats;
      !layers.empty() && layers.rbegin()->first >= num_layers) {
    return fail(ErrorCode::kInvalidArgument,
                "The recipe \"{}\" names layer {}, but {} has the layers 0 to {}.",
                goal.recipe.name, layers.rbegin()->first, options.model, num_layers - 1);
  }
  // What is cut in depth still goes by the recipe of the whole.
  QUENCH_TRY_VOID(cut_layers(options, planned->files.config));
  QUENCH_TRY(planned->device, open_device(options.device, options.device_options));
  const ModelFiles& files = planned->files;
  StoredFormat stored;
  if (options.random_weights) {
    planned->source = make_random_source(options.weights_seed, goal.recipe);
  } else if (files.checkpoint && files.checkpoint->has_weights()) {
    QUENCH_TRY(planned->source,
               open_checkpoint_source(*files.checkpoint, *files.family, files.config));
  }
  if (planned->source != nullptr) {
    stored = [&](const TensorSpec& spec) { return stored_in(*planned->source, spec); };
  } else {
    stored = [](const TensorSpec&) -> Stored {
      return {find_format("bf16")};
    };  // what official models are published in
  }
  QUENCH_TRY(planned->plan, make_plan(*files.family, files.config, stored, *planned->device, goal));
  return planned;
}

Result<std::unique_ptr<Session>> Session::open(const SessionOptions& options,
                                               const LoadProgress& progress) {
  const double start_s = now_s();
  auto session = std::unique_ptr<Session>(new Session);
  QUENCH_TRY(session->planned_, plan_model(options, Weights::kRequired));
  if (options.needs_tokenizer) {
    QUENCH_TRY(Tokenizer tokenizer, load_tokenizer(session->files()));
    session->tokenizer_ = std::make_unique<Tokenizer>(std::move(tokenizer));
    const int64_t known = session->plan().config.max_position_embeddings;
    if (options.goal.max_seq_len > known) {
      spdlog::warn(
          "{}: {} tokens are more than the {} that the model takes "
          "(max_position_embeddings); what it writes beyond may make no sense",
          session->files().name, options.goal.max_seq_len, known);
    }
  }
  session->late_ = std::make_unique<LateWeights>();
  QUENCH_TRY(Model model, load_model(session->plan(), *session->planned_->source, session->device(),
                                     progress, options.pack_late ? session->late_.get() : nullptr));
  session->model_ = std::make_unique<Model>(std::move(model));
  session->load_s_ = now_s() - start_s;
  return session;
}

Result<std::unique_ptr<Engine>> Session::make_engine(bool reuse_prefixes) const {
  QUENCH_CHECK(tokenizer_ != nullptr, "an engine needs a tokenizer's vocabulary");
  return quench::make_engine(plan(), *model_, device(), tokenizer_->vocab_size(), reuse_prefixes,
                             [this](double seconds) { return pack_more(seconds); });
}

Result<std::unique_ptr<Runner>> Session::make_runner() const {
  pack_more(std::numeric_limits<double>::infinity());
  return Runner::create(plan(), *model_, device());
}

bool Session::pack_more(double seconds) const {
  if (!late_->done()) late_->advance(*planned_->source, device(), *model_, seconds);
  return !late_->done();
}

double Generation::prefill_tok_s() const {
  return ttft_s > 0.0 ? static_cast<double>(prompt_tokens) / ttft_s : 0.0;
}

double Generation::decode_tok_s() const {
  if (token_s.size() < 2) return 0.0;
  return static_cast<double>(token_s.size() - 1) / (token_s.back() - token_s.front());
}

Result<Generation> generate(Engine& engine, const Tokenizer& tokenizer, Request request,
                            const TextSink& sink, const std::atomic<bool>* stop) {
  const double start_s = now_s();
  Generation result;
  result.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  StopChecker checker(request.sampling);
  Detokenizer detokenizer(tokenizer, true);
  auto show = [&](const std::string& text) {
    if (text.empty()) return;
    result.text += text;
    if (sink) sink(text);
  };
  QUENCH_TRY(const RequestId id, engine.submit(std::move(request)));
  bool running = true;
  while (running) {
    if (stop != nullptr && stop->load(std::memory_order_relaxed)) engine.cancel(id);
    for (const Event& event : engine.step()) {
      if (event.id != id) continue;
      if (event.token >= 0 && !checker.finish_reason()) {
        result.ids.push_back(event.token);
        result.token_s.push_back(event.time_s - start_s);
        show(checker.feed(event.token, detokenizer.push(event.token)).text);
        if (checker.finish_reason() && !event.finished) engine.cancel(id);  // a stop string
      }
      if (!event.finished) continue;
      running = false;
      if (!checker.finish_reason()) show(checker.finish(event.reason));
      // Cut off in the middle of a character: what Python's decode shows for the same bytes.
      if (checker.finish_reason() != FinishReason::kStop) show(detokenizer.flush());
      result.finish_reason = *checker.finish_reason();
      result.message = event.message;
    }
  }
  if (!result.token_s.empty()) {
    result.ttft_s = result.token_s.front();
    result.e2e_s = result.token_s.back();
  }
  return result;
}

}  // namespace quench
