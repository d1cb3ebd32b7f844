#include "measure/records.h"

#include <cmath>
#include <ctime>

#include "base/version.h"
#include "measure/bench_record.h"
#include "measure/eval/eval_json.h"

namespace quench {
namespace {

Json median_or_null(const Summary& summary) {
  return summary.count == 0 ? Json() : Json(summary.median);
}

Json build_json(const ShootoutRow& row) {
  return {{"commit", build_commit()}, {"isa", row.target.value("isa", Json())}};
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
  const auto accuracy = scores != nullptr ? scores->accuracy : std::nullopt;
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
          {"accuracy", accuracy ? Json(accuracy->percent() / 100.0) : Json()},
          {"accuracy_standard_error", accuracy ? Json(accuracy->standard_error() / 100.0) : Json()},
          {"accuracy_questions", accuracy ? Json(accuracy->n) : Json()},
          {"top1_agreement", score(&EvalScores::top1_agreement)},
          {"planned_bytes", row.planned_bytes},
          {"peak_bytes", or_null(row.peak_bytes)},
          {"make_s", row.make_s},
          {"choice", row.choice},
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

}  // namespace

Json record_json(const Shootout& shootout, const ShootoutRow& row, const std::string& time) {
  Bench bench;
  bench.target = row.target;
  bench.model = row.model;
  bench.sampling = shootout.protocol.sampling;
  bench.length = shootout.length;
  bench.lang = shootout.lang;
  bench.first_seed = shootout.first_seed;
  bench.interleaved = shootout.interleaved;
  bench.tasks = row.runs;
  bench.load_s = row.make_s;
  bench.planned_bytes = row.planned_bytes;
  bench.peak_bytes = row.peak_bytes;
  bench.complete = shootout.complete;
  bench.problems = find_problems(bench);
  return record_json(bench, time);
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

std::string utc_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace quench
