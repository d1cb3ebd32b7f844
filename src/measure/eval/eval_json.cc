#include "measure/eval/eval_json.h"

namespace quench {
namespace {

Json kld_json(const EvalScores& scores) {
  return {{"mean", scores.kld.mean},     {"ci95", {scores.kld.low, scores.kld.high}},
          {"median", scores.kld_median}, {"p99", scores.kld_p99},
          {"p999", scores.kld_p999},     {"max", scores.kld_max}};
}

Json accuracy_json(const std::optional<Accuracy>& accuracy) {
  if (!accuracy) return nullptr;
  return {{"correct", accuracy->correct},
          {"n", accuracy->n},
          {"percent", accuracy->percent()},
          {"standard_error", accuracy->standard_error()}};
}

Json continuation_json(const std::optional<Accuracy>& accuracy) {
  Json json = accuracy_json(accuracy);
  if (json.is_object()) json["task"] = "continuation";
  return json;
}

Json task_json(const TaskScores& scores) {
  Json parts = Json::array();
  for (const TaskScore& part : scores.parts) {
    parts.push_back({{"domain", part.domain},
                     {"accuracy", accuracy_json(part.accuracy)},
                     {"accuracy_per_byte", accuracy_json(part.per_byte)}});
  }
  Json json = parts.front();
  json.erase("domain");
  parts.erase(0);
  json["task"] = scores.task;
  json["sha256"] = scores.sha256;
  json["domains"] = std::move(parts);
  return json;
}

Json scores_json(const EvalScores& scores) {
  return {{"domain", scores.domain},
          {"scored", scores.scored},
          {"ppl", scores.ppl},
          {"kld", kld_json(scores)},
          {"top1_agreement", scores.top1_agreement},
          {"rms_dp", scores.rms_dp},
          {"accuracy", continuation_json(scores.accuracy)}};
}

}  // namespace

Json eval_json(const Evaluation& evaluation, const ModelScores& scores, Json model, Json reference,
               int64_t max_tokens_per_domain) {
  const EvalScores& overall = scores.overall;
  Json tasks = Json::array();
  for (const TaskScores& task : scores.tasks) tasks.push_back(task_json(task));
  Json domains = Json::array();
  for (const EvalScores& domain : scores.domains) domains.push_back(scores_json(domain));
  return {
      {"schema", "quench.eval/1"},
      {"model", std::move(model)},
      {"reference", std::move(reference)},
      {"text", evaluation.text_path},
      {"text_sha256", evaluation.text_sha256},
      {"tokens", evaluation.tokens},
      {"max_tokens_per_domain", max_tokens_per_domain > 0 ? Json(max_tokens_per_domain) : Json()},
      {"scored", evaluation.scored},
      {"context", evaluation.context},
      {"stride", evaluation.stride},
      {"windows", evaluation.convention == EvalConvention::kHalves ? "halves" : "sliding"},
      {"convention", evaluation.convention_text()},
      {"ppl", overall.ppl},
      {"kld", kld_json(overall)},
      {"top1_agreement", overall.top1_agreement},
      {"rms_dp", overall.rms_dp},
      {"accuracy", continuation_json(overall.accuracy)},
      {"tasks", std::move(tasks)},
      {"domains", domains},
      {"reference_s", evaluation.reference_s},
      {"reference_stored", evaluation.reference_is_stored},
      {"noise_floor",
       {{"kld_mean", evaluation.noise_floor_mean},
        {"kld_max", evaluation.noise_floor_max},
        {"kernel", evaluation.noise_floor_kernel},
        {"positions", evaluation.noise_floor_positions}}}};
}

}  // namespace quench
