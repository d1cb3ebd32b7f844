#include "measure/predictions.h"

#include <algorithm>
#include <cmath>

#include "measure/history.h"
#include "measure/history_sql.h"

namespace quench {

std::vector<ScoreSummary> summarize_scores(const std::vector<Score>& scores) {
  std::vector<ScoreSummary> summaries;
  for (const char* metric : {"ttft_s", "tpot_s"}) {
    ScoreSummary summary;
    summary.metric = metric;
    for (const Score& score : scores) {
      if (score.metric != metric) continue;
      ++summary.count;
      summary.mean_error += std::fabs(score.error());
      summary.bias += score.error();
      summary.inside_share += score.is_inside() ? 1.0 : 0.0;
      const auto model_error = score.model_error();
      if (!model_error) continue;
      ++summary.model_count;
      summary.mean_model_error += std::fabs(*model_error);
      summary.model_bias += *model_error;
    }
    if (summary.count == 0) continue;
    const auto n = static_cast<double>(summary.count);
    for (double* sum : {&summary.mean_error, &summary.bias, &summary.inside_share}) *sum /= n;
    const auto with_model = static_cast<double>(std::max<int64_t>(summary.model_count, 1));
    for (double* sum : {&summary.mean_model_error, &summary.model_bias}) *sum /= with_model;
    summaries.push_back(summary);
  }
  return summaries;
}

Result<void> History::keep_prediction(const PredictionKey& key, const Json& prediction) {
  Statement insert(db_,
                   "INSERT OR IGNORE INTO prediction (id, time, model, family, format, machine, "
                   "isa, threads, batch, parameters, bytes_read_per_token, json) "
                   "VALUES (?,?,?,?,?,?,?,?,?,?,?,?)");
  int at = 0;
  for (const char* name : {"id", "time", "model"})
    insert.bind(++at, prediction.at(name).get<std::string>());
  for (const std::string* text : {&key.family, &key.format, &key.machine, &key.isa})
    insert.bind(++at, *text);
  for (const int64_t number : {key.threads, key.batch, key.parameters, key.bytes_read_per_token})
    insert.bind(++at, static_cast<double>(number));
  insert.bind(++at, prediction.dump(-1, ' ', false, Json::error_handler_t::replace));
  insert.step();
  if (!insert.is_done()) return tl::unexpected(error_now("write"));
  return {};
}

Result<Json> History::find_prediction(const PredictionKey& key) const {
  Statement select(
      db_,
      "SELECT json FROM prediction WHERE family = ? AND format = ? AND machine = ? AND "
      "isa = ? AND threads = ? AND batch = ? AND parameters = ? AND "
      "bytes_read_per_token = ? ORDER BY time DESC, id LIMIT 1");
  int at = 0;
  for (const std::string* text : {&key.family, &key.format, &key.machine, &key.isa})
    select.bind(++at, *text);
  for (const int64_t number : {key.threads, key.batch, key.parameters, key.bytes_read_per_token})
    select.bind(++at, static_cast<double>(number));
  if (select.step()) return parse_json(select.text(0), path_ + ": a prediction");
  if (!select.is_done()) return tl::unexpected(error_now("read"));
  return Json();
}

Result<void> History::keep_scores(const std::vector<Score>& scores) {
  for (const Score& score : scores) {
    Statement insert(db_,
                     "INSERT OR REPLACE INTO score (prediction_id, measurement_id, task, metric, "
                     "time, prediction_time, model, format, machine, tokens, predicted, low, high, "
                     "measured, expected, others_share) "
                     "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
    int at = 0;
    for (const std::string* text :
         {&score.prediction_id, &score.measurement_id, &score.task, &score.metric, &score.time,
          &score.prediction_time, &score.model, &score.format, &score.machine})
      insert.bind(++at, *text);
    for (const std::optional<double> number :
         {std::optional(score.tokens), std::optional(score.predicted), std::optional(score.low),
          std::optional(score.high), std::optional(score.measured), score.expected,
          score.others_share})
      insert.bind(++at, number);
    insert.step();
    if (!insert.is_done()) return tl::unexpected(error_now("write"));
  }
  return {};
}

Result<std::vector<Score>> History::scores(const HistoryFilter& filter) const {
  HistoryFilter usable = filter;
  usable.schema = usable.target = usable.label = "";
  const Where where(usable);
  std::string sql =
      "SELECT prediction_id, measurement_id, task, metric, time, prediction_time, model, format, "
      "machine, tokens, predicted, low, high, measured, expected, others_share FROM score" +
      where.sql + " ORDER BY time DESC, measurement_id, task, metric";
  if (filter.limit > 0) sql += fmt::format(" LIMIT {}", filter.limit);
  Statement select(db_, sql);
  where.bind(select);
  std::vector<Score> scores;
  while (select.step()) {
    auto number = [&](int column) { return select.number(column).value_or(0.0); };
    scores.push_back({select.text(0), select.text(1), select.text(2), select.text(3),
                      select.text(4), select.text(5), select.text(6), select.text(7),
                      select.text(8), number(9), number(10), number(11), number(12), number(13),
                      select.number(14), select.number(15)});
  }
  if (!select.is_done()) return tl::unexpected(error_now("read"));
  std::reverse(scores.begin(), scores.end());
  return scores;
}

Result<int64_t> History::count_unscored() const {
  return ask("SELECT count(*) FROM prediction WHERE id NOT IN (SELECT prediction_id FROM score)");
}

}  // namespace quench
