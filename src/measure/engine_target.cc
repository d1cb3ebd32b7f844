#include "measure/engine_target.h"

#include <limits>
#include <set>

#include "base/clock.h"
#include "engine/generation_config.h"

namespace quench {

Result<std::vector<int32_t>> model_stop_tokens(const Session& session) {
  const Json& generation = session.files().generation_json;
  Json stops = Json::object();
  if (generation.is_object() && generation.contains("eos_token_id"))
    stops["eos_token_id"] = generation["eos_token_id"];
  QUENCH_TRY(SamplingSettings settings,
             merge_generation_config(stops, "The model's generation_config.json"));
  std::set<int32_t> ids(settings.stop_token_ids.begin(), settings.stop_token_ids.end());
  for (const char* token : {"<|im_end|>", "<|endoftext|>"}) {
    if (const auto id = session.tokenizer().find(token)) ids.insert(*id);
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

EngineTarget::EngineTarget(const Session& session, std::unique_ptr<Engine> engine,
                           ChatTemplate chat_template, std::vector<int32_t> stop_token_ids)
    : session_(session),
      engine_(std::move(engine)),
      template_(chat_template),
      stop_token_ids_(std::move(stop_token_ids)) {}

Result<std::unique_ptr<EngineTarget>> EngineTarget::create(const Session& session) {
  // Every run pays for its whole prompt, also when an earlier one has had the same.
  QUENCH_TRY(auto engine, session.make_engine(false));
  QUENCH_TRY(ChatTemplate chat_template, load_text_template(session.files()));
  QUENCH_TRY(auto stop_token_ids, model_stop_tokens(session));
  return std::unique_ptr<EngineTarget>(
      new EngineTarget(session, std::move(engine), chat_template, std::move(stop_token_ids)));
}

Json EngineTarget::describe() const {
  const Plan& plan = session_.plan();
  std::set<std::string> kernels;
  Json fallbacks = Json::object();
  for (const PlannedMatrix& matrix : plan.matrices) {
    kernels.insert(fmt::format("{}: {}", matrix.format->name, matrix.kernel->name));
    if (!matrix.fallback.empty()) fallbacks[matrix.sources.front().name] = matrix.fallback;
  }
  return {{"target", "engine"},
          {"device", session_.device().name()},
          {"isa", session_.device().isa()},
          {"threads", session_.device().num_workers()},
          {"kernels", kernels},
          {"plan",
           {{"weights_bytes", plan.weights_bytes},
            {"vectors_bytes", plan.vectors_bytes},
            {"kv_bytes", plan.kv_bytes},
            {"workspace_bytes", plan.workspace_bytes},
            {"total_bytes", plan.total_bytes()},
            {"max_seq_len", plan.max_seq_len},
            {"fallbacks", fallbacks}}}};
}

Result<int64_t> EngineTarget::submit(const BenchRequest& request) {
  QUENCH_TRY(std::vector<TokenId> prompt,
             encode_chat(session_.tokenizer(), template_, {{"user", request.prompt}}, {}));
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  SamplingSettings sampling = request.sampling;
  if (request.length_locked) {
    sampling.stop_token_ids.clear();
    sampling.stop_strings.clear();
  } else {
    sampling.stop_token_ids.insert(sampling.stop_token_ids.end(), stop_token_ids_.begin(),
                                   stop_token_ids_.end());
  }
  StopChecker checker(sampling);
  QUENCH_TRY(const RequestId id, engine_->submit({std::move(prompt), std::move(sampling)}));
  streams_.emplace(
      id, Stream{prompt_tokens, Detokenizer(session_.tokenizer(), true), std::move(checker)});
  return id;
}

Result<std::span<const BenchEvent>> EngineTarget::poll(double) {
  events_.clear();
  const std::span<const Event> drawn = engine_->step();
  const double seen_s = now_s();
  // Weights once for the whole step; the cache and long prompts' further pieces are left out.
  if (!drawn.empty())
    publisher_.add(session_.plan().read_bytes_per_token, static_cast<int64_t>(drawn.size()));
  for (const Event& event : drawn) {
    const auto it = streams_.find(event.id);
    if (it == streams_.end()) continue;
    Stream& stream = it->second;
    BenchEvent& out = events_.emplace_back();
    out.request = event.id;
    out.time_s = seen_s;
    out.engine_time_s = event.time_s;
    out.is_token = event.token >= 0 && !stream.checker.finish_reason();
    if (out.is_token) {
      out.text = stream.checker.feed(event.token, stream.detokenizer.push(event.token)).text;
      // A stop string ends the answer before the engine knows.
      if (stream.checker.finish_reason() && !event.finished) engine_->cancel(event.id);
    }
    if (!event.finished) continue;
    // The first answer, a warm-up, has met a model as it comes; what is counted does not.
    session_.pack_more(std::numeric_limits<double>::infinity());
    if (!stream.checker.finish_reason()) out.text += stream.checker.finish(event.reason);
    out.finished = true;
    out.reason = *stream.checker.finish_reason();
    out.message = event.message;
    out.prompt_tokens = stream.prompt_tokens;
    streams_.erase(it);
  }
  return std::span<const BenchEvent>(events_);
}

void EngineTarget::cancel(int64_t request) { engine_->cancel(request); }

}  // namespace quench
