#include "measure/choose_format.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/clock.h"
#include "base/paths.h"
#include "measure/grid_runner.h"
#include "measure/machine.h"
#include "measure/report/table.h"
#include "text/documents.h"

namespace quench {
namespace {

// Of the memory that is free, how much the plans of the open models may take.
constexpr double kOpenShare = 0.8;

const char* by_name(ChoiceRule::By by) { return by == ChoiceRule::By::kSpeed ? "speed" : "knee"; }

// The model with room for the request and the windows of the evaluation.
SessionOptions measured_session(const SessionOptions& model) {
  SessionOptions session = model;
  session.goal.max_seq_len = std::max<int64_t>(2 * kRequestTokens, EvalOptions().context);
  return session;
}

Result<Evaluation> evaluate_candidates(const Session& reference,
                                       const std::vector<const Session*>& candidates,
                                       const ChoiceOptions& options) {
  std::string path = options.text_path;
  if (path.empty()) {
    QUENCH_TRY(path, data_path("texts/eval"));
  }
  QUENCH_TRY(const ChatTemplate chat_template, load_text_template(reference.files()));
  QUENCH_TRY(EvalTexts texts, load_eval_texts(path, reference.tokenizer(), chat_template));
  limit_tokens(texts, options.domain_tokens);
  EvalOptions eval;
  eval.stop = options.stop;
  return evaluate(&reference, candidates, texts, eval);
}

class FormatMeter {
 public:
  FormatMeter(const SessionOptions& model, const Recipe& recipe, const ChoiceOptions& options,
              FormatChoice& choice)
      : model_(measured_session(model)), options_(options), choice_(choice) {
    for (const std::string& format : choice.rule.formats) {
      MeasuredFormat& measured = choice_.formats.emplace_back();
      measured.format = format;
      SessionOptions& session = sessions_.emplace_back(model_);
      session.recipe = recipe;
      session.recipe_path.clear();
      session.recipe->default_format = format;
      session.recipe->algorithm = "rtn";
      session.recipe->rotate = false;
    }
  }

  Result<void> run() {
    const bool wants_loss = choice_.rule.by == ChoiceRule::By::kKnee;
    std::unique_ptr<Session> reference;
    if (wants_loss) {
      QUENCH_TRY(reference, Session::open(model_));
    }
    QUENCH_TRY(const bool fits, all_fit(reference.get()));
    const size_t together = fits ? sessions_.size() : 1;
    for (size_t first = 0; first < sessions_.size(); first += together)
      QUENCH_TRY_VOID(measure(first, together, reference.get()));
    return {};
  }

 private:
  Result<bool> all_fit(const Session* reference) {
    int64_t sum_bytes = reference != nullptr ? reference->plan().total_bytes() : 0;
    for (size_t i = 0; i < sessions_.size(); ++i) {
      QUENCH_TRY(const auto planned, plan_model(sessions_[i], Weights::kRequired));
      choice_.formats[i].bytes = planned->plan.weights_bytes + planned->plan.vectors_bytes;
      sum_bytes += planned->plan.total_bytes();
    }
    const auto available = available_memory_bytes();
    return !available ||
           static_cast<double>(sum_bytes) <= kOpenShare * static_cast<double>(*available);
  }

  Result<void> measure(size_t first, size_t count, const Session* reference) {
    std::vector<std::unique_ptr<Session>> open;
    std::vector<GridRunner> runners;
    for (size_t i = first; i < first + count; ++i) {
      report("Loading " + choice_.formats[i].format, static_cast<int64_t>(i));
      QUENCH_TRY(auto session, Session::open(sessions_[i]));
      QUENCH_TRY(auto runner, session->make_runner());
      runners.emplace_back(*session, std::move(runner), 1);
      open.push_back(std::move(session));
    }
    QUENCH_TRY_VOID(time_requests(first, runners));
    if (reference == nullptr) return {};
    report("Measuring loss", static_cast<int64_t>(first));
    std::vector<const Session*> candidates;
    for (const auto& session : open) candidates.push_back(session.get());
    QUENCH_TRY(const Evaluation evaluation, evaluate_candidates(*reference, candidates, options_));
    for (size_t i = 0; i < count; ++i) {
      choice_.formats[first + i].rounded_kld =
          std::max(evaluation.candidates[i].overall.kld.mean, 0.0);
    }
    return {};
  }

  // In turns; the first of each warms up and does not count.
  Result<void> time_requests(size_t first, std::vector<GridRunner>& runners) {
    const GridRow prompt = {
        .is_prefill = true, .tokens = kRequestTokens, .tok_s = {}, .expected_tok_s = {}};
    const GridRow answer = {
        .tokens = kRequestTokens, .depth = kRequestTokens, .tok_s = {}, .expected_tok_s = {}};
    const double end_s = now_s() + kMeasureS * static_cast<double>(runners.size());
    for (int64_t repetition = -1; repetition < options_.max_repetitions; ++repetition) {
      if (repetition >= options_.min_repetitions && now_s() > end_s) break;
      report("Measuring speed", std::max<int64_t>(repetition, 0));
      for (size_t i = 0; i < runners.size(); ++i) {
        const double request_s = runners[i].run(prompt) + runners[i].run(answer);
        if (repetition >= 0) choice_.formats[first + i].request_s.push_back(request_s);
        if (options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed))
          return fail(ErrorCode::kCancelled, "Interrupted while the candidates were measured.");
      }
    }
    return {};
  }

  void report(const std::string& stage, int64_t done) const {
    if (options_.progress) options_.progress(stage, done, options_.max_repetitions);
  }

  SessionOptions model_;
  const ChoiceOptions& options_;
  FormatChoice& choice_;
  std::vector<SessionOptions> sessions_;  // by candidate
};

std::vector<double> zero_to_one(std::vector<double> values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double start = *low;
  const double range = *high - *low;
  for (double& value : values) value = range > 0.0 ? (value - start) / range : 0.0;
  return values;
}

}  // namespace

Result<std::optional<ChoiceRule>> parse_choice_rule(const Json& recipe, const std::string& where) {
  if (!recipe.is_object() || !recipe.contains("choose")) return std::nullopt;
  const Json& choose = recipe["choose"];
  auto refuse = [&](std::string what) {
    return fail(ErrorCode::kInvalidFile, "{}: {}.", where, what);
  };
  const auto is_rule = [&] {
    return choose.is_object() && choose.contains("by") && choose.contains("among") &&
           choose["among"].is_array() && choose["among"].size() >= 2 &&
           (choose["by"] == "speed" || choose["by"] == "knee");
  };
  if (!is_rule()) {
    return refuse(
        "\"choose\" must be {\"by\": \"speed\" or \"knee\", \"among\": [at least two formats]}, "
        "found " +
        choose.dump());
  }
  ChoiceRule rule;
  rule.by = choose["by"] == "speed" ? ChoiceRule::By::kSpeed : ChoiceRule::By::kKnee;
  for (const Json& name : choose["among"]) {
    if (!name.is_string()) return refuse("\"among\" must name formats, found " + name.dump());
    QUENCH_TRY(const Format* format, require_encoder(name.get<std::string>()));
    rule.formats.push_back(format->name);
  }
  return rule;
}

Result<std::optional<ChoiceRule>> choice_rule_of(const SessionOptions& session) {
  if (session.recipe || session.recipe_path.empty()) return std::nullopt;
  QUENCH_TRY(const Json recipe, read_json_file(session.recipe_path));
  return parse_choice_rule(recipe, session.recipe_path);
}

std::vector<size_t> order_by_speed(const std::vector<MeasuredFormat>& formats) {
  std::vector<size_t> left(formats.size());
  std::iota(left.begin(), left.end(), size_t{0});
  std::vector<size_t> order;
  while (!left.empty()) {
    const auto quickest = *std::min_element(left.begin(), left.end(), [&](size_t a, size_t b) {
      return median(formats[a].request_s) < median(formats[b].request_s);
    });
    const double reach = median_interval(formats[quickest].request_s).high;
    size_t best = quickest;
    for (const size_t i : left) {
      const bool is_apart = median_interval(formats[i].request_s).low > reach;
      if (!is_apart && formats[i].bytes < formats[best].bytes) best = i;
    }
    order.push_back(best);
    left.erase(std::find(left.begin(), left.end(), best));
  }
  return order;
}

std::vector<size_t> order_by_knee(const std::vector<MeasuredFormat>& formats) {
  std::vector<double> cost;
  std::vector<double> loss;
  for (const MeasuredFormat& format : formats) {
    cost.push_back(std::log(static_cast<double>(format.bytes)) +
                   std::log(median(format.request_s)));
    loss.push_back(format.rounded_kld.value_or(0.0));
  }
  cost = zero_to_one(std::move(cost));
  loss = zero_to_one(std::move(loss));
  std::vector<size_t> order(formats.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return cost[a] + loss[a] < cost[b] + loss[b]; });
  return order;
}

std::optional<size_t> FormatChoice::next(std::optional<size_t> last) const {
  for (const size_t i : order) {
    if (!last || formats[i].bytes > formats[*last].bytes) return i;
  }
  return std::nullopt;
}

Result<FormatChoice> measure_formats(const SessionOptions& model, const Recipe& recipe,
                                     const ChoiceRule& rule, const ChoiceOptions& options) {
  FormatChoice choice;
  choice.rule = rule;
  choice.kld_budget = recipe.kld_budget;
  QUENCH_TRY_VOID(FormatMeter(model, recipe, options, choice).run());
  choice.order = rule.by == ChoiceRule::By::kSpeed ? order_by_speed(choice.formats)
                                                   : order_by_knee(choice.formats);
  return choice;
}

Result<ClusteredMean> measure_kld(const SessionOptions& model, const SessionOptions& candidate,
                                  const ChoiceOptions& options) {
  QUENCH_TRY(const auto reference, Session::open(measured_session(model)));
  QUENCH_TRY(const auto judged, Session::open(measured_session(candidate)));
  QUENCH_TRY(const Evaluation evaluation, evaluate_candidates(*reference, {judged.get()}, options));
  return evaluation.candidates.front().overall.kld;
}

Json choice_json(const FormatChoice& choice) {
  Json candidates = Json::array();
  for (const MeasuredFormat& format : choice.formats) {
    const MedianInterval interval = median_interval(format.request_s);
    const auto& kld = format.kld;
    candidates.push_back({{"format", format.format},
                          {"bytes", format.bytes},
                          {"request_s", median(format.request_s)},
                          {"request_ci_s", {interval.low, interval.high}},
                          {"request_runs_s", format.request_s},
                          {"repetitions", format.request_s.size()},
                          {"rounded_kld", format.rounded_kld ? Json(*format.rounded_kld) : Json()},
                          {"kld_mean", kld ? Json(kld->mean) : Json()},
                          {"kld_ci95", kld ? Json(Json::array({kld->low, kld->high})) : Json()}});
  }
  Json order = Json::array();
  for (const size_t i : choice.order) order.push_back(choice.formats[i].format);
  return {{"by", by_name(choice.rule.by)},    {"kld_budget", choice.kld_budget},
          {"chosen", choice.chosen},          {"in_budget", choice.is_in_budget},
          {"request_tokens", kRequestTokens}, {"order", order},
          {"candidates", candidates}};
}

std::optional<FormatChoice> kept_measurements(const Json& choice, const Recipe& recipe,
                                              const ChoiceRule& rule) {
  FormatChoice kept;
  kept.rule = rule;
  kept.kld_budget = recipe.kld_budget;
  try {
    const Json& candidates = choice.at("candidates");
    if (choice.at("by") != by_name(rule.by) || candidates.size() != rule.formats.size())
      return std::nullopt;
    for (size_t i = 0; i < rule.formats.size(); ++i) {
      const Json& row = candidates.at(i);
      MeasuredFormat& format = kept.formats.emplace_back();
      format.format = row.at("format").get<std::string>();
      format.bytes = row.at("bytes").get<int64_t>();
      format.request_s = row.at("request_runs_s").get<std::vector<double>>();
      if (row.at("rounded_kld").is_number()) format.rounded_kld = row.at("rounded_kld");
      if (row.at("kld_mean").is_number()) {
        ClusteredMean& kld = format.kld.emplace();
        kld.mean = row.at("kld_mean");
        kld.low = row.at("kld_ci95").at(0);
        kld.high = row.at("kld_ci95").at(1);
      }
      if (format.format != rule.formats[i] || format.request_s.empty()) return std::nullopt;
    }
  } catch (const Json::exception&) {
    return std::nullopt;
  }
  kept.order = rule.by == ChoiceRule::By::kSpeed ? order_by_speed(kept.formats)
                                                 : order_by_knee(kept.formats);
  return kept;
}

std::string choice_text(const Json& choice) {
  const auto number = [](const Json& value, int decimals, double scale) {
    return number_cell(value.is_number() ? std::optional(value.get<double>()) : std::nullopt,
                       decimals, scale);
  };
  Table table;
  table.columns = {{"format", "candidate", Align::kLeft},
                   {"bytes", "MB"},
                   {"request_s", "request, ms"},
                   {"request_low_s", "from"},
                   {"request_high_s", "to"},
                   {"rounded_kld", "KLD rounded"},
                   {"kld_mean", "KLD"}};
  for (const Json& row : choice["candidates"]) {
    table.rows.push_back({text_cell(row["format"].get<std::string>()),
                          number(row["bytes"], 2, 1e-6), number(row["request_s"], 2, 1e3),
                          number(row["request_ci_s"][0], 2, 1e3),
                          number(row["request_ci_s"][1], 2, 1e3), number(row["rounded_kld"], 4, 1),
                          number(row["kld_mean"], 4, 1)});
  }
  const auto chosen = choice["chosen"].get<std::string>();
  const double budget = choice["kld_budget"].get<double>();
  std::string reason = choice["by"] == "speed" ? "the quickest (of equals the smallest)"
                                               : "the knee of loss over cost";
  if (budget > 0.0) {
    reason = choice["in_budget"] == true
                 ? fmt::format("{} within {} nats per token", reason, budget)
                 : fmt::format("no candidate stays within {} nats per token", budget);
  }
  return fmt::format("{}{}: {}.\n", table.text(), chosen, reason);
}

}  // namespace quench
