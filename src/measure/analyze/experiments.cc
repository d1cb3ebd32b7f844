#include "measure/analyze/experiments.h"

#include <algorithm>
#include <cmath>

#include "measure/statistics.h"

namespace quench {
namespace {

double distance(double a, double b) { return std::fabs(std::log(a / b)); }

// Repeats too few for an interval of the median with any meaning.
constexpr size_t kFewestPairs = 4;

// Of one wrong finding among all the experiments of one explanation.
constexpr double kFamilyAlpha = 0.05;

// No part of a run is known better than this.
constexpr double kSmallestEffect = 1.05;

std::string text_or_empty(const Sentence& sentence, const Strings& strings) {
  return sentence.key.empty() ? std::string() : strings(sentence);
}

std::vector<double> ratios_of(const Experiment& experiment) {
  std::vector<double> ratios;
  for (size_t i = 0; i < experiment.unchanged_tok_s.size(); ++i)
    ratios.push_back(experiment.changed_tok_s[i] / experiment.unchanged_tok_s[i]);
  return ratios;
}

Sentence outcome_sentence(Outcome outcome) {
  return {std::string("explain.outcome.") + outcome_name(outcome)};
}

// Of what was found: that the median is not `otherwise`, or lies outside the prediction.
double p_of_finding(const Experiment& experiment, const std::vector<double>& ratios) {
  if (experiment.outcome == Outcome::kCannotTell) return 1.0;
  const Forecast& predicted = experiment.predicted;
  const double bound = experiment.outcome == Outcome::kHeld ? predicted.otherwise
                       : experiment.ratio > predicted.high  ? predicted.high
                                                            : predicted.low;
  const auto above =
      std::count_if(ratios.begin(), ratios.end(), [&](double ratio) { return ratio > bound; });
  return sign_test(static_cast<int64_t>(ratios.size()), above);
}

}  // namespace

Forecast forecast_change(const PassTime& time, const Change& change) {
  const double now_s = time.total_s();
  const double model_s = time.model_s() * change.model_factor;
  const double u = change.uncertainty;
  const double slow_s = model_s * u + time.rest_s() * change.rest_high;
  const double fast_s = model_s / u + time.rest_s() * change.rest_low;
  Forecast prediction;
  prediction.low = change.tokens_factor * now_s / slow_s;
  prediction.high = change.tokens_factor * now_s / fast_s;
  // Nothing goes beyond what the change could do if it were everything.
  const double least = std::min(change.none, change.full);
  const double most = std::max(change.none, change.full);
  prediction.low = std::clamp(prediction.low, least, most) / kSmallestEffect;
  prediction.high = std::clamp(prediction.high, least, most) * kSmallestEffect;
  const double middle = std::sqrt(prediction.low * prediction.high);
  prediction.otherwise =
      distance(middle, change.none) > distance(middle, change.full) ? change.none : change.full;
  return prediction;
}

Forecast forecast_neighbour(int threads, int readers, double others_cpus, int cpus) {
  const double before = std::max(threads + others_cpus, static_cast<double>(cpus));
  const double after = std::max(threads + others_cpus + readers, static_cast<double>(cpus));
  const double share = before / after;
  Forecast prediction;
  prediction.otherwise = 1.0;
  prediction.high = std::min(1.15 * share, 0.97);
  prediction.low = 0.8 * std::pow(share, static_cast<double>(std::min(threads, 8)));
  prediction.because = {"explain.because.neighbour",
                        {{"readers", std::to_string(readers)},
                         {"threads", std::to_string(threads)},
                         {"others", fixed(others_cpus, 1)},
                         {"cpus", std::to_string(cpus)},
                         {"share", fixed(share, 2)}}};
  return prediction;
}

Forecast forecast_fewer_threads(const Forecast& alone, int threads, int fewer, double others_cpus,
                                int cpus) {
  const auto wanted = [&](int count) {
    return std::max(count + others_cpus, static_cast<double>(cpus));
  };
  const double gain = wanted(threads) / wanted(fewer);
  if (gain < kSmallestEffect) return alone;
  Forecast prediction = alone;
  prediction.low *= gain;
  prediction.high *= std::pow(gain, static_cast<double>(std::min(threads, 8)));
  // If the others took nothing, it would be as it is alone.
  prediction.otherwise = std::sqrt(alone.low * alone.high);
  prediction.because = {
      "explain.because.threads_beside",
      {{"others", fixed(others_cpus, 1)}, {"cpus", std::to_string(cpus)}, {"gain", fixed(gain, 2)}},
      {{"alone", alone.because}}};
  return prediction;
}

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kHeld:
      return "held";
    case Outcome::kRefuted:
      return "refuted";
    case Outcome::kCannotTell:
      return "cannot tell";
  }
  return "";
}

Result<void> measure_in_turns(const Turns& turns, const Arm& unchanged, const Arm& changed,
                              Experiment& experiment) {
  QUENCH_TRY(Pairs pairs, measure_pairs(turns, unchanged, changed));
  experiment.unchanged_tok_s = std::move(pairs.a);
  experiment.changed_tok_s = std::move(pairs.b);
  judge(experiment);
  return {};
}

void judge(Experiment& experiment) {
  const std::vector<double> ratios = ratios_of(experiment);
  experiment.outcome = Outcome::kCannotTell;
  if (!ratios.empty()) {
    const MedianInterval interval = median_interval(ratios);
    experiment.ratio = median(ratios);
    experiment.low = interval.low;
    experiment.high = interval.high;
    experiment.coverage = interval.coverage;
  }
  const Forecast& predicted = experiment.predicted;
  if (ratios.size() < kFewestPairs) {
    experiment.note = {
        "explain.note.few_pairs",
        {{"pairs", std::to_string(ratios.size())}, {"needed", std::to_string(kFewestPairs)}}};
  } else if (experiment.high < predicted.low || experiment.low > predicted.high) {
    experiment.outcome = Outcome::kRefuted;
  } else if (!predicted.can_fail()) {
    experiment.note = {"explain.note.too_near"};
  } else if (experiment.low <= predicted.otherwise && predicted.otherwise <= experiment.high) {
    experiment.note = {"explain.note.spread"};
  } else if (experiment.ratio < predicted.low || experiment.ratio > predicted.high) {
    experiment.note = {"explain.note.edge"};
  } else {
    experiment.outcome = Outcome::kHeld;
  }
  experiment.p = p_of_finding(experiment, ratios);
}

void judge_together(std::vector<Experiment>& experiments) {
  std::vector<Experiment*> measured;
  std::vector<double> p;
  for (Experiment& one : experiments) {
    if (one.unchanged_tok_s.empty()) continue;
    measured.push_back(&one);
    p.push_back(one.p);
  }
  const std::vector<double> adjusted = holm_adjusted(p);
  for (size_t i = 0; i < measured.size(); ++i) {
    Experiment& one = *measured[i];
    one.p_together = adjusted[i];
    if (one.outcome == Outcome::kCannotTell || adjusted[i] <= kFamilyAlpha) continue;
    one.note = {"explain.note.holm",
                {{"p", fixed(one.p, 3)},
                 {"count", std::to_string(measured.size())},
                 {"together", fixed(adjusted[i], 3)}},
                {{"outcome", outcome_sentence(one.outcome)}}};
    one.outcome = Outcome::kCannotTell;
  }
}

Json experiment_json(const Experiment& experiment) {
  const Strings& english = Strings::of("en");
  const bool is_measured = !experiment.unchanged_tok_s.empty();
  auto known = [&](double value) { return is_measured ? Json(value) : Json(); };
  return {{"id", experiment.id},
          {"test", test_text(experiment, english)},
          {"change", text_or_empty(experiment.change, english)},
          {"predicted",
           {{"low", experiment.predicted.low},
            {"high", experiment.predicted.high},
            {"otherwise", experiment.predicted.otherwise},
            {"because", text_or_empty(experiment.predicted.because, english)}}},
          {"unchanged_tok_s", experiment.unchanged_tok_s},
          {"changed_tok_s", experiment.changed_tok_s},
          {"ratio", known(experiment.ratio)},
          {"low", known(experiment.low)},
          {"high", known(experiment.high)},
          {"coverage", known(experiment.coverage)},
          {"outcome", outcome_name(experiment.outcome)},
          {"p", known(experiment.p)},
          {"p_together", experiment.p_together ? Json(*experiment.p_together) : Json()},
          {"observed_others_cpus",
           experiment.observed_others_cpus ? Json(*experiment.observed_others_cpus) : Json()},
          {"note", text_or_empty(experiment.note, english)}};
}

std::string test_text(const Experiment& experiment, const Strings& strings) {
  const std::string key = "explain.test." + experiment.test;
  return experiment.subject.empty() ? strings(key)
                                    : strings(key + "_of", {{"model", experiment.subject}});
}

std::string prediction_text(const Experiment& experiment, const Strings& strings) {
  const Forecast& predicted = experiment.predicted;
  return strings("explain.prediction", {{"title", strings("explain.change." + experiment.id)},
                                        {"change", text_or_empty(experiment.change, strings)},
                                        {"test", test_text(experiment, strings)},
                                        {"low", fixed(predicted.low, 2)},
                                        {"high", fixed(predicted.high, 2)},
                                        {"otherwise", fixed(predicted.otherwise, 2)}});
}

std::string outcome_text(const Experiment& experiment, const Strings& strings) {
  std::string text = strings(outcome_sentence(experiment.outcome));
  if (!experiment.unchanged_tok_s.empty()) {
    text =
        strings("explain.measured", {{"ratio", fixed(experiment.ratio, 2)},
                                     {"low", fixed(experiment.low, 2)},
                                     {"high", fixed(experiment.high, 2)},
                                     {"pairs", std::to_string(experiment.unchanged_tok_s.size())},
                                     {"outcome", text}});
  }
  if (experiment.note.key.empty()) return text;
  return strings("explain.outcome_note", {{"outcome", text}, {"note", strings(experiment.note)}});
}

}  // namespace quench
