#include "measure/records.h"

#include <cmath>
#include <ctime>

#include "base/sha256.h"
#include "base/version.h"
#include "measure/eval/eval_json.h"

namespace quench {
namespace {

Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }
template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}
Json median_or_null(const Summary& summary) {
  return summary.count == 0 ? Json() : Json(summary.median);
}

Json build_json(const ShootoutRow& row) {
  return {{"commit", build_commit()}, {"isa", row.target.value("isa", Json())}};
}

Json machine_json() {
  const Machine machine = this_machine();
  return {{"cpu_model", or_null(machine.cpu_model)},
          {"cpus", machine.cpus},
          {"memory_bytes", or_null(machine.memory_bytes)}};
}

Json model_json(const MeasuredModel& model) {
  return {{"name", model.name},
          {"sha256", or_null(model.sha256)},
          {"family", model.family},
          {"format", model.format},
          {"bytes", model.bytes},
          {"bytes_read_per_token", model.bytes_read_per_token},
          {"parameters", model.num_parameters}};
}

Json settings_json(const Shootout& shootout) {
  return {{"length", shootout.length.name},
          {"warmups", shootout.length.warmups},
          {"runs", shootout.length.runs},
          {"first_seed", shootout.first_seed},
          {"lang", shootout.lang},
          {"max_new_tokens", or_null(shootout.length.max_new_tokens)},
          {"sampling", shootout.protocol.sampling},
          {"interleaved", shootout.interleaved}};
}

Json run_json(const BenchRun& run) {
  return {{"warmup", run.warmup},
          {"seed", run.seed},
          {"prompt_tokens", or_null(run.prompt_tokens)},
          {"generated_tokens", run.generated_tokens},
          {"generated_bytes", run.text.size()},
          {"finish_reason", finish_reason_name(run.finish_reason)},
          {"ttft_s", run.token_s.empty() ? Json() : Json(run.ttft_s)},
          {"e2e_s", run.e2e_s},
          {"decode_tok_s", or_null(run.decode_tok_s())},
          {"token_s", run.token_s},
          {"engine_token_s", run.engine_token_s.empty() ? Json() : Json(run.engine_token_s)}};
}

Json summary_json(const Summary& summary) {
  if (summary.count == 0) return {};
  return {{"count", summary.count},
          {"median", summary.median},
          {"low", summary.interval.low},
          {"high", summary.interval.high},
          {"coverage", summary.interval.coverage},
          {"mean", summary.mean},
          {"standard_deviation", summary.standard_deviation},
          {"min", summary.min},
          {"max", summary.max},
          {"outliers", summary.outliers}};
}

Json choice_json(const Choice& choice) {
  return {{"profile", or_null(choice.profile)},
          {"too_close", choice.too_close},
          {"clauses", clauses_json(choice.clauses)},
          {"reason", choice.reason}};
}

Json row_json(const Shootout& shootout, const ShootoutRow& row) {
  const auto bytes = static_cast<double>(row.model.bytes);
  const auto reference_bytes = static_cast<double>(shootout.rows.front().model.bytes);
  const EvalScores* scores = row.scores ? &row.scores->overall : nullptr;
  auto score = [&](double EvalScores::*member) {
    return scores != nullptr ? Json(scores->*member) : Json();
  };
  return {{"profile", row.profile},
          {"format", row.model.format},
          {"bytes", row.model.bytes},
          {"saved_fraction", 1.0 - bytes / reference_bytes},
          {"compression_ratio", reference_bytes / bytes},
          {"bits_per_weight", 8.0 * bytes / static_cast<double>(row.model.num_parameters)},
          {"decode_tok_s", median_or_null(row.speed.decode_tok_s)},
          {"prefill_tok_s", median_or_null(row.speed.prefill_tok_s)},
          {"ttft_s", median_or_null(row.speed.ttft_s)},
          {"e2e_s", median_or_null(row.speed.e2e_s)},
          {"kld_mean", scores != nullptr ? Json(scores->kld.mean) : Json()},
          {"ppl", score(&EvalScores::ppl)},
          {"accuracy", nullptr},
          {"top1_agreement", score(&EvalScores::top1_agreement)},
          {"planned_bytes", row.planned_bytes},
          {"peak_bytes", or_null(row.peak_bytes)},
          {"make_s", row.make_s},
          {"statistics",
           {{"decode_tok_s", summary_json(row.speed.decode_tok_s)},
            {"prefill_tok_s", summary_json(row.speed.prefill_tok_s)},
            {"ttft_s", summary_json(row.speed.ttft_s)},
            {"e2e_s", summary_json(row.speed.e2e_s)}}}};
}

Json recommendation_json(const Recommendation& recommendation) {
  Json scores = Json::array();
  auto finite = [](double value) { return std::isfinite(value) ? Json(value) : Json(); };
  for (const BalanceScore& score : recommendation.balance_scores) {
    scores.push_back({{"profile", score.profile},
                      {"score", score.score},
                      {"low", finite(score.low)},
                      {"high", finite(score.high)}});
  }
  return {{"storage", choice_json(recommendation.storage)},
          {"speed", choice_json(recommendation.speed)},
          {"balance", choice_json(recommendation.balance)},
          {"rules",
           {{"kld_budget", recommendation.rules.kld_budget},
            {"kld_per_doubling", recommendation.rules.kld_per_doubling}}},
          {"balance_scores", scores}};
}

// Names the object by its content.
void add_id(Json& json) {
  const std::string text = json.dump();
  json["id"] = sha256_hex(std::as_bytes(std::span(text))).substr(0, 16);
}

}  // namespace

Json record_json(const Shootout& shootout, const ShootoutRow& row, const std::string& time) {
  Json tasks = Json::array();
  for (const TaskRuns& task : row.runs) {
    Json runs = Json::array();
    for (const BenchRun& run : task.runs) runs.push_back(run_json(run));
    tasks.push_back({{"task", task.task}, {"lang", task.lang}, {"runs", runs}});
  }
  Json json = {
      {"schema", "quench.record/1"},
      {"id", nullptr},
      {"time", time},
      {"build", build_json(row)},
      {"machine", machine_json()},
      {"ceilings", nullptr},
      {"model", model_json(row.model)},
      {"plan", row.target.value("plan", Json())},
      {"kernels", row.target.value("kernels", Json())},
      {"settings", settings_json(shootout)},
      {"tasks", tasks},
      {"memory", {{"planned_bytes", row.planned_bytes}, {"peak_bytes", or_null(row.peak_bytes)}}},
      {"series", nullptr},
      {"energy_j", nullptr}};
  json["settings"]["device"] = row.target.value("device", Json());
  json["settings"]["threads"] = row.target.value("threads", Json());
  add_id(json);
  return json;
}

Json eval_json(const Shootout& shootout, const ShootoutRow& row) {
  return eval_json(*shootout.evaluation, *row.scores, model_json(row.model),
                   model_json(shootout.rows.front().model), shootout.length.max_tokens_per_domain);
}

Json shootout_json(const Shootout& shootout, const std::string& time, const std::string& report) {
  Json rows = Json::array();
  Json records = Json::array();
  Json evaluations = Json::array();
  for (const ShootoutRow& row : shootout.rows) {
    rows.push_back(row_json(shootout, row));
    records.push_back(record_json(shootout, row, time));
    if (row.scores && shootout.evaluation) evaluations.push_back(eval_json(shootout, row));
  }
  Json json = {{"schema", "quench.shootout/1"},
               {"id", nullptr},
               {"time", time},
               {"build", build_json(shootout.rows.front())},
               {"machine", machine_json()},
               {"reference", model_json(shootout.rows.front().model)},
               {"settings", settings_json(shootout)},
               {"complete", shootout.complete},
               {"rows", rows},
               {"recommendation", recommendation_json(shootout.recommendation)},
               {"report", or_null(report)},
               {"records", records},
               {"evaluations", evaluations}};
  add_id(json);
  return json;
}

Result<void> validate_measurement(const Json& json) {
  struct Schema {
    const char* name;
    std::vector<const char*> fields;
  };
  static const Schema kSchemas[] = {
      {"quench.record/1",
       {"id", "time", "build", "machine", "ceilings", "model", "plan", "kernels", "settings",
        "tasks", "memory", "series", "energy_j"}},
      {"quench.eval/1",
       {"model", "reference", "text_sha256", "tokens", "context", "stride", "convention", "ppl",
        "kld", "top1_agreement", "accuracy", "domains", "noise_floor"}},
      {"quench.shootout/1", {"reference", "rows", "recommendation", "report"}}};
  const std::string name =
      json.is_object() && json.contains("schema") ? json["schema"].dump() : "nothing";
  for (const Schema& schema : kSchemas) {
    if (name != fmt::format("\"{}\"", schema.name)) continue;
    for (const char* field : schema.fields) {
      if (!json.contains(field))
        return fail(ErrorCode::kInvalidFile, "A {} needs the field \"{}\".", schema.name, field);
    }
    for (const char* list : {"records", "evaluations"}) {
      if (!json.contains(list)) continue;
      for (const Json& part : json[list]) QUENCH_TRY_VOID(validate_measurement(part));
    }
    return {};
  }
  return fail(ErrorCode::kInvalidFile, "Expected the schema of a measurement, found {}.", name);
}

std::string utc_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace quench
