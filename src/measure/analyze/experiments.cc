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

std::string title(const std::string& id) {
  if (id == "half_bits") return "half the bits";
  if (id == "double_batch") return "double the batch";
  if (id == "fewer_threads") return "fewer threads";
  if (id == "together") return "two models at once";
  if (id == "isolated") return "two models, kept apart";
  return "a neighbour";
}

std::vector<double> ratios_of(const Experiment& experiment) {
  std::vector<double> ratios;
  for (size_t i = 0; i < experiment.unchanged_tok_s.size(); ++i)
    ratios.push_back(experiment.changed_tok_s[i] / experiment.unchanged_tok_s[i]);
  return ratios;
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
  prediction.because = fmt::format(
      "{} readers, {} threads and {:.1f} CPUs' worth of others share {} CPUs: {:.2f} of the time "
      "that it has now, less where the team waits for a member",
      readers, threads, others_cpus, cpus, share);
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
    experiment.note =
        fmt::format("there was time for {} pairs, {} are needed", ratios.size(), kFewestPairs);
  } else if (experiment.high < predicted.low || experiment.low > predicted.high) {
    experiment.outcome = Outcome::kRefuted;
  } else if (!predicted.can_fail()) {
    experiment.note = "the prediction is too near to what would be otherwise";
  } else if (experiment.low <= predicted.otherwise && predicted.otherwise <= experiment.high) {
    experiment.note = "the spread is larger than the effect";
  } else if (experiment.ratio < predicted.low || experiment.ratio > predicted.high) {
    experiment.note = "only the edge of the spread meets the prediction";
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
    one.note = fmt::format("{} alone (p {:.3f}), but one of {} predictions (p {:.3f} by Holm)",
                           outcome_name(one.outcome), one.p, measured.size(), adjusted[i]);
    one.outcome = Outcome::kCannotTell;
  }
}

Json experiment_json(const Experiment& experiment) {
  const bool is_measured = !experiment.unchanged_tok_s.empty();
  auto known = [&](double value) { return is_measured ? Json(value) : Json(); };
  return {{"id", experiment.id},
          {"test", experiment.test},
          {"change", experiment.change},
          {"predicted",
           {{"low", experiment.predicted.low},
            {"high", experiment.predicted.high},
            {"otherwise", experiment.predicted.otherwise},
            {"because", experiment.predicted.because}}},
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
          {"note", experiment.note}};
}

std::string prediction_text(const Experiment& experiment) {
  const Forecast& predicted = experiment.predicted;
  return fmt::format(
      "{} ({}), {}: predicted {:.2f} to {:.2f} times as fast, {:.2f} if it were "
      "otherwise",
      title(experiment.id), experiment.change, experiment.test, predicted.low, predicted.high,
      predicted.otherwise);
}

std::string outcome_text(const Experiment& experiment) {
  std::string text;
  if (!experiment.unchanged_tok_s.empty()) {
    text = fmt::format("measured {:.2f} ({:.2f} to {:.2f}, {} pairs): ", experiment.ratio,
                       experiment.low, experiment.high, experiment.unchanged_tok_s.size());
  }
  text += outcome_name(experiment.outcome);
  return experiment.note.empty() ? text : text + ", " + experiment.note;
}

}  // namespace quench
