#include "measure/analyze/score.h"

#include <algorithm>
#include <cmath>

#include "measure/analyze/live.h"
#include "measure/bench_record.h"
#include "measure/grid.h"
#include "measure/history.h"
#include "measure/machine.h"
#include "measure/statistics.h"

namespace quench {
namespace {

constexpr double kLongestPoint = 1 << 20;

std::optional<Interval> at_tokens(const std::vector<PredictedPoint>& points,
                                  Interval PredictedPoint::*which, double tokens) {
  if (points.empty() || tokens > points.back().tokens) return std::nullopt;
  const auto above = std::find_if(points.begin(), points.end(), [&](const PredictedPoint& point) {
    return point.tokens >= tokens;
  });
  if (above == points.begin() || above->tokens == tokens) return (*above).*which;
  const Interval& low = (*(above - 1)).*which;
  const Interval& high = (*above).*which;
  const double part =
      std::log(tokens / (above - 1)->tokens) / std::log(above->tokens / (above - 1)->tokens);
  auto between_logs = [&](double a, double b) { return a * std::pow(b / a, part); };
  return Interval{between_logs(low.value, high.value), between_logs(low.low, high.low),
                  between_logs(low.high, high.high)};
}

Interval interval_of(const Json& json) {
  return {json.at("value"), json.at("low"), json.at("high")};
}

Json key_json(const PredictionKey& key) {
  return {{"family", key.family},         {"format", key.format},
          {"parameters", key.parameters}, {"bytes_read_per_token", key.bytes_read_per_token},
          {"machine", key.machine},       {"isa", key.isa},
          {"threads", key.threads},       {"batch", key.batch}};
}
PredictionKey key_of(const Json& json) {
  return {
      json.at("family"),  json.at("format"), json.at("parameters"), json.at("bytes_read_per_token"),
      json.at("machine"), json.at("isa"),    json.at("threads"),    json.at("batch")};
}

// The figures of one task of a record, over its counted runs.
void add_figures(const Json& task, std::vector<MeasuredFigure>& figures) {
  std::vector<double> prompt, ttft_s, context, tpot_s;
  for (const Json& run : task.at("runs")) {
    if (run.at("warmup") != false || run.value("finish_reason", Json()) == "error") continue;
    if (!run.at("prompt_tokens").is_number() || !run.at("ttft_s").is_number()) continue;
    const double tokens = run.at("prompt_tokens");
    prompt.push_back(tokens);
    ttft_s.push_back(run.at("ttft_s"));
    if (!run.contains("tpot_s") || !run.at("tpot_s").is_number()) continue;
    context.push_back(tokens + run.at("generated_tokens").get<double>() / 2.0);
    tpot_s.push_back(run.at("tpot_s"));
  }
  const std::string name = task.at("task");
  if (!ttft_s.empty()) figures.push_back({name, "ttft_s", median(prompt), median(ttft_s), {}});
  if (!tpot_s.empty()) figures.push_back({name, "tpot_s", median(context), median(tpot_s), {}});
}

std::optional<double> sum_of_others(std::optional<double> others, std::optional<double> steal) {
  return others ? std::optional(*others + steal.value_or(0.0)) : std::nullopt;
}

// How near the figures of one metric came.
std::string summary_text(const ScoreSummary& one, const Strings& strings) {
  const auto inside =
      static_cast<int64_t>(std::llround(one.inside_share * static_cast<double>(one.count)));
  const std::string interval =
      one.count == 1 ? strings(inside == 1 ? "explain.score.inside" : "explain.score.outside")
                     : strings("explain.score.of", {{"inside", std::to_string(inside)},
                                                    {"count", std::to_string(one.count)}});
  const std::string text =
      strings(one.metric == "ttft_s" ? "explain.score.ttft" : "explain.score.tpot",
              {{"percent", fixed(100.0 * one.mean_error, 0)}, {"interval", interval}});
  if (one.model_count == 0) return text;
  return strings("explain.score.beside",
                 {{"score", text}, {"percent", fixed(100.0 * one.mean_model_error, 0)}});
}

std::string scores_text(const std::vector<Score>& scores, const Strings& strings) {
  std::vector<std::string> parts;
  for (const ScoreSummary& one : summarize_scores(scores))
    parts.push_back(summary_text(one, strings));
  if (parts.empty()) return "";
  std::map<std::string, std::string> values = {{"time", scores.front().prediction_time},
                                               {"scores", strings.join(parts)}};
  const auto others = scores.front().others_share;
  if (others) values["percent"] = fixed(100.0 * *others, 0);
  return strings(others ? "explain.score.line_others" : "explain.score.line", values);
}

Result<std::unique_ptr<History>> open_user_history() {
  QUENCH_TRY(const std::string path, history_path());
  return History::open(path);
}

}  // namespace

std::optional<Interval> KeptPrediction::ttft_s(double tokens) const {
  return at_tokens(points, &PredictedPoint::ttft_s, tokens);
}
std::optional<Interval> KeptPrediction::tpot_s(double tokens) const {
  return at_tokens(points, &PredictedPoint::tpot_s, tokens);
}

PredictionKey prediction_key(const MeasuredModel& model, const std::string& isa, int64_t threads,
                             int64_t batch) {
  return {model.family,
          model.format,
          model.num_parameters,
          model.bytes_read_per_token,
          this_machine().cpu_model,
          isa,
          threads,
          batch};
}

Result<KeptPrediction> make_prediction(const PredictionKey& key, const Placement& setup,
                                       const PredictFn& predict, const Ceilings& ceilings,
                                       const std::string& time) {
  KeptPrediction kept;
  kept.time = time;
  kept.model = setup.shape.name;
  kept.key = key;
  kept.prompt_tokens = setup.prompt_tokens;
  kept.output_tokens = setup.output_tokens;
  kept.ceilings = ceilings;
  const double longest = setup.prompt_tokens + setup.output_tokens;
  std::vector<double> lengths = {setup.prompt_tokens, setup.prompt_tokens + setup.output_tokens / 2,
                                 longest};
  for (double tokens = 1.0; tokens < std::min(longest, kLongestPoint); tokens *= 2.0)
    lengths.push_back(tokens);
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  for (const double tokens : lengths) {
    Placement one = setup;
    // Behind the prompt comes one token, so both figures are those of so many tokens.
    one.prompt_tokens = std::floor(tokens);
    one.output_tokens = 1.0;
    QUENCH_TRY(const Prediction prediction, predict(one));
    kept.points.push_back({tokens, prediction.ttft_s, prediction.tpot_s});
  }
  Json json = prediction_json(kept);
  add_id(json);
  kept.id = json.at("id").get<std::string>();
  return kept;
}

Json prediction_json(const KeptPrediction& prediction) {
  Json points = Json::array();
  for (const PredictedPoint& point : prediction.points) {
    points.push_back({{"tokens", point.tokens},
                      {"ttft_s", interval_json(point.ttft_s)},
                      {"tpot_s", interval_json(point.tpot_s)}});
  }
  return {
      {"schema", "quench.prediction/1"},
      {"id", or_null(prediction.id)},
      {"time", prediction.time},
      {"model", prediction.model},
      {"key", key_json(prediction.key)},
      {"settings",
       {{"prompt_tokens", prediction.prompt_tokens}, {"output_tokens", prediction.output_tokens}}},
      {"points", std::move(points)},
      {"ceilings", ceilings_json(prediction.ceilings)}};
}

Result<KeptPrediction> parse_prediction(const Json& json, const std::string& where) {
  KeptPrediction kept;
  try {
    kept.id = json.at("id").get<std::string>();
    kept.time = json.at("time").get<std::string>();
    kept.model = json.at("model").get<std::string>();
    kept.key = key_of(json.at("key"));
    kept.prompt_tokens = json.at("settings").at("prompt_tokens").get<double>();
    kept.output_tokens = json.at("settings").at("output_tokens").get<double>();
    for (const Json& point : json.at("points"))
      kept.points.push_back(
          {point.at("tokens"), interval_of(point.at("ttft_s")), interval_of(point.at("tpot_s"))});
    QUENCH_TRY(kept.ceilings, parse_ceilings(json.at("ceilings"), where));
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorCode::kInvalidFile, "{}: this is no kept prediction: {}.", where, e.what());
  }
  return kept;
}

std::optional<Measurement> measurement_of(const Json& record) {
  Measurement result;
  try {
    if (record.at("schema") != "quench.record/1" || record.at("target").at("kind") != "engine")
      return std::nullopt;
    result.id = record.at("id").get<std::string>();
    result.time = record.at("time").get<std::string>();
    const Json& model = record.at("model");
    result.model = model.at("name").get<std::string>();
    result.key = {model.at("family"),
                  model.at("format"),
                  model.at("parameters"),
                  model.at("bytes_read_per_token"),
                  record.at("machine").at("cpu_model"),
                  record.at("build").at("isa"),
                  record.at("settings").at("threads"),
                  1};
    if (const Json& state = record.at("state"); state.is_object()) {
      auto share = [&](const char* name) {
        return state.contains(name) && state.at(name).is_number()
                   ? std::optional(state.at(name).get<double>())
                   : std::nullopt;
      };
      result.others_share = sum_of_others(share("others_share"), share("steal_share"));
    }
    for (const Json& task : record.at("tasks")) add_figures(task, result.figures);
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;  // a server's, a typed one, or of an earlier version
  }
  return result;
}

std::vector<Measurement> measurements_of(const SpeedGrid& grid, const std::string& time) {
  std::vector<Measurement> result;
  for (const GridRow& row : grid.rows) {
    if (row.is_prefill && row.depth > 0) continue;
    auto same_batch = [&](const Measurement& one) { return one.key.batch == row.batch; };
    auto at = std::find_if(result.begin(), result.end(), same_batch);
    if (at == result.end()) {
      Measurement one;
      one.id = fmt::format("grid-{}-{}", row.batch, time);
      one.time = time;
      one.model = grid.model;
      one.key = prediction_key(grid.measured, grid.isa, grid.threads, row.batch);
      one.others_share =
          sum_of_others(grid.state.during.others_share, grid.state.during.steal_share);
      at = result.insert(result.end(), std::move(one));
    }
    const auto tokens = static_cast<double>(row.tokens);
    const double speed = row.median_tok_s() / static_cast<double>(row.batch);
    const std::string task =
        fmt::format("{} {}", row.is_prefill ? "prefill" : "decode", row.tokens);
    MeasuredFigure figure = {task, "ttft_s", tokens, tokens / speed, {}};
    if (!row.is_prefill) {
      const double context = static_cast<double>(row.depth) + tokens / 2.0;
      figure = {fmt::format("{} @ {}", task, row.depth), "tpot_s", context, 1.0 / speed, {}};
    }
    if (const auto error = row.expected_error()) figure.expected = figure.measured * (1.0 + *error);
    at->figures.push_back(std::move(figure));
  }
  return result;
}

Measurement measurement_of(const LiveReport& report, const std::string& time) {
  Measurement result;
  result.id = "explain-" + time;
  result.time = time;
  result.model = report.model;
  for (const LiveCase& one : report.cases) {
    const MeasuredPass& pass = one.pass;
    result.key = prediction_key(report.measured, report.isa, report.threads, pass.batch);
    if (pass.others_cpus) result.others_share = *pass.others_cpus / pass.cpus;
    result.figures.push_back({pass.is_prefill ? "prefill" : "decode",
                              pass.is_prefill ? "ttft_s" : "tpot_s",
                              static_cast<double>(pass.context),
                              pass.time.total_s(),
                              {}});
  }
  return result;
}

std::vector<Score> score(const KeptPrediction& prediction, const Measurement& measurement) {
  std::vector<Score> scores;
  for (const MeasuredFigure& figure : measurement.figures) {
    const auto said = figure.metric == "ttft_s" ? prediction.ttft_s(figure.tokens)
                                                : prediction.tpot_s(figure.tokens);
    if (!said || !(figure.measured > 0.0)) continue;
    scores.push_back({prediction.id, measurement.id, figure.task, figure.metric, measurement.time,
                      prediction.time, measurement.model, measurement.key.format,
                      measurement.key.machine, figure.tokens, said->value, said->low, said->high,
                      figure.measured, figure.expected, measurement.others_share});
  }
  return scores;
}

Result<std::vector<Score>> score_in_history(History& history, const Measurement& measurement) {
  QUENCH_TRY(const Json found, history.find_prediction(measurement.key));
  if (found.is_null()) return std::vector<Score>();
  QUENCH_TRY(const KeptPrediction prediction, parse_prediction(found, "the history"));
  std::vector<Score> scores = score(prediction, measurement);
  QUENCH_TRY_VOID(history.keep_scores(scores));
  return scores;
}

Result<std::string> score_measurement(const Measurement& measurement, const Strings& strings) {
  QUENCH_TRY(const auto history, open_user_history());
  QUENCH_TRY(const std::vector<Score> scores, score_in_history(*history, measurement));
  return scores.empty() ? std::string() : scores_text(scores, strings);
}

std::string score_text(const std::vector<Measurement>& measurements, const Strings& strings) {
  std::string text;
  for (const Measurement& one : measurements) {
    const auto line = score_measurement(one, strings);
    const std::string& part = line ? *line : line.error().message;
    if (!part.empty()) text += part + "\n";
  }
  return text;
}

Result<void> keep_prediction(const KeptPrediction& prediction) {
  QUENCH_TRY(const auto history, open_user_history());
  return history->keep_prediction(prediction.key, prediction_json(prediction));
}

}  // namespace quench
