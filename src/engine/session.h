// Session: a model opened for use: files, tokenizer, device, plan, weights. What every verb that
// runs a model starts from. Owns everything; one thread drives it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/loader.h"
#include "engine/model_files.h"
#include "engine/runner.h"
#include "quench/engine.h"

namespace quench {

struct SessionOptions {
  std::string model = "demo";
  bool random_weights = false;
  uint64_t weights_seed = 0;
  int64_t num_layers = 0;        // only the first so many, with random weights; 0: all
  std::string format;            // a format's name for all quantizable matrices; empty: as stored
  std::string recipe_path;       // a recipe instead: a file, or the name of one that ships
  std::optional<Recipe> recipe;  // or one that was made here; over both
  std::string device = "cpu";
  DeviceOptions device_options;
  bool needs_tokenizer =
      true;                // false: only token ids go in and out, and tokenizer() is not called
  bool pack_late = false;  // weights that can serve from their file are packed while an engine
                           // runs, not before its first token
  PlanGoal goal;           // the recipe in it is filled from format or recipe_path
};

// A profile's name as a session's recipe file or format: NAME of recipes/NAME.json, the path of a
// recipe file, or the name of a format.
Result<SessionOptions> session_for_profile(const SessionOptions& reference,
                                           const std::string& profile);

// The recipe that the options name: a file, one that ships, or one format for all.
Result<Recipe> session_recipe(const SessionOptions& options);

// What Engine::open() means by its options.
Result<SessionOptions> to_session_options(const EngineOptions& options);

// Packs weights that were left for later, one at least, until `seconds` have passed; returns
// whether there are more.
using PackMore = std::function<bool(double seconds)>;

// An engine on a model that was loaded by this plan on this device; all must outlive it.
// vocab_size: ids of the tokenizer; embedding rows beyond it are never sampled. Once a token is
// drawn, the engine calls `pack_more` between its steps, for as long as a step takes, until there
// is no more.
Result<std::unique_ptr<Engine>> make_engine(const Plan& plan, const Model& model, Device& device,
                                            int64_t vocab_size, bool reuse_prefixes = true,
                                            PackMore pack_more = {});

// A ModelFiles opened and planned, but without weights in memory: what `inspect` and `plan` need.
struct PlannedModel {
  ModelFiles files;
  std::unique_ptr<Device> device;
  std::unique_ptr<WeightSource> source;  // null when the weights are not there
  Plan plan;
};
Result<std::unique_ptr<PlannedModel>> plan_model(const SessionOptions& options, Weights need);

class Session {
 public:
  static Result<std::unique_ptr<Session>> open(const SessionOptions& options,
                                               const LoadProgress& progress = {});

  const ModelFiles& files() const { return planned_->files; }
  const Plan& plan() const { return planned_->plan; }
  Device& device() const { return *planned_->device; }
  const Model& model() const { return *model_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  double load_s() const { return load_s_; }

  // PackMore of this session: by the thread that drives the device, between two runs. No output
  // changes by it.
  bool pack_more(double seconds) const;

  // The session must outlive both. A runner begins with all weights packed.
  Result<std::unique_ptr<Engine>> make_engine(bool reuse_prefixes = true) const;
  Result<std::unique_ptr<Runner>> make_runner() const;

 private:
  std::unique_ptr<PlannedModel> planned_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<LateWeights> late_;
  double load_s_ = 0.0;
};

// One answer with its times. All on the steady clock, measured from the call of generate().
struct Generation {
  std::string text;          // what may be shown: without stop tokens and stop strings
  std::vector<int32_t> ids;  // generated ids, a stop token included
  int64_t prompt_tokens = 0;
  FinishReason finish_reason = FinishReason::kStop;
  std::string message;          // when finish_reason is kError
  std::vector<double> token_s;  // [generated] when each token was drawn
  double ttft_s = 0.0;          // token_s[0]
  double e2e_s = 0.0;           // until the last token

  int64_t generated_tokens() const { return static_cast<int64_t>(ids.size()); }
  double prefill_tok_s() const;  // prompt tokens over ttft_s
  double decode_tok_s() const;   // generated tokens after the first, over the time after the first;
                                 // 0 with less than two
};

using TextSink = std::function<void(std::string_view text)>;  // pieces of whole characters

// Runs one request to its end on an otherwise idle engine, detokenizing and watching for stop
// strings. `stop` set from another thread or a signal handler ends it with kCancelled.
Result<Generation> generate(Engine& engine, const Tokenizer& tokenizer, Request request,
                            const TextSink& sink = {}, const std::atomic<bool>* stop = nullptr);

}  // namespace quench
