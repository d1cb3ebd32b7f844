#include "measure/analyze/live.h"

namespace quench {

Sentence conclude(const std::string& test, const std::string& limiter,
                  const std::vector<Experiment>& experiments) {
  int64_t held = 0;
  int64_t open = 0;
  std::string refuted;
  for (const Experiment& one : experiments) {
    if (one.test != test) continue;
    held += one.outcome == Outcome::kHeld ? 1 : 0;
    open += one.outcome == Outcome::kCannotTell ? 1 : 0;
    if (one.outcome == Outcome::kRefuted) refuted += (refuted.empty() ? "" : ", ") + one.id;
  }
  if (!refuted.empty()) return {"explain.conclusion.refuted", {{"experiments", refuted}}};
  if (held == 0) return {"explain.conclusion.open"};
  const bool is_external = limiter == "neighbour" || limiter == "overflow";
  Sentence conclusion = {
      is_external ? "explain.conclusion.observed" : "explain.conclusion.borne_out",
      {{"held", std::to_string(held)}}};
  if (open > 0) {
    conclusion.key += "_open";
    conclusion.values["open"] = std::to_string(open);
  }
  return conclusion;
}

std::string not_tried_text(const Experiment& experiment, const Strings& strings) {
  return strings("explain.live.not_tried", {{"id", experiment.id},
                                            {"test", test_text(experiment, strings)},
                                            {"why", strings(experiment.note)}});
}

Json live_json(const LiveReport& report) {
  Json cases = Json::array();
  for (const LiveCase& one : report.cases) {
    Json json = measured_pass_json(one.pass, one.limiter);
    json["all_tok_s"] = one.tok_s;
    json["conclusion"] = Strings::of("en")(one.conclusion);
    cases.push_back(std::move(json));
  }
  Json experiments = Json::array();
  for (const Experiment& one : report.experiments) experiments.push_back(experiment_json(one));
  return {{"schema", "quench.explain/1"},
          {"claims", Json::array()},
          {"here",
           {{"model", report.model},
            {"format", report.format},
            {"num_hidden_layers", report.layers},
            {"device", report.device},
            {"isa", report.isa},
            {"threads", report.threads},
            {"kernels", report.kernels},
            {"ceilings", ceilings_json(report.ceilings)},
            {"measure_s", report.measure_s},
            {"cases", std::move(cases)}}},
          {"experiments", std::move(experiments)}};
}

std::string live_text(const LiveReport& report, const Strings& strings) {
  std::string text =
      strings("explain.live.title",
              {{"model", report.model},
               {"format",
                report.format == kAsStored ? strings("explain.live.as_stored") : report.format},
               {"layers", std::to_string(report.layers)},
               {"device", report.device},
               {"isa", report.isa},
               {"threads", std::to_string(report.threads)}}) +
      "\n\n";
  for (const LiveCase& one : report.cases) {
    const MeasuredPass& pass = one.pass;
    const auto tokens = static_cast<double>(pass.tokens);
    text += strings(
        pass.tokens == 1 ? "explain.live.case_one" : "explain.live.case",
        {{"test", strings(pass.is_prefill ? "explain.test.prefill" : "explain.test.decode")},
         {"ms", fixed(1e3 * pass.time.total_s(), 2)},
         {"tokens", std::to_string(pass.tokens)},
         {"tok_s", fixed(tokens / pass.time.total_s(), 1)},
         {"percent", fixed(100.0 * one.limiter.share_of_limit, 0)},
         {"limit", fixed(tokens / pass.limit.limit_s(), 1)}});
    text += fmt::format("\n  {}\n  {}\n", strings(one.limiter.sentence),
                        strings("explain.live.time", {{"parts", time_text(pass, strings)}}));
    if (!one.conclusion.key.empty()) text += "  " + strings(one.conclusion) + "\n";
  }
  text += "\n" + strings("explain.live.experiments") + "\n";
  int64_t number = 0;
  for (const Experiment& one : report.experiments) {
    const Sentence& because = one.predicted.because;
    if (because.key.empty()) {
      text += fmt::format("{}. {}\n", ++number, not_tried_text(one, strings));
    } else {
      text += fmt::format("{}. {}\n   {}\n   {}\n", ++number, prediction_text(one, strings),
                          strings("explain.live.because", {{"why", strings(because)}}),
                          outcome_text(one, strings));
    }
    if (one.observed_others_cpus) {
      text += "   " +
              strings("explain.live.others", {{"cpus", fixed(*one.observed_others_cpus, 1)}}) +
              "\n";
    }
  }
  return text + "\n" + strings("explain.live.seconds", {{"s", fixed(report.measure_s, 0)}}) + "\n";
}

}  // namespace quench
