#include "measure/analyze/live.h"

namespace quench {

std::string conclude(const std::string& test, const std::string& limiter,
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
  if (!refuted.empty()) {
    return fmt::format("refuted by {}: something else is at work too", refuted);
  }
  if (held == 0) return "not proven: no experiment could tell";
  const bool is_external = limiter == "neighbour" || limiter == "overflow";
  return fmt::format("{}: {} predictions held{}",
                     is_external ? "observed, not removed; how the rest of the time divides is "
                                   "borne out"
                                 : "borne out",
                     held, open > 0 ? fmt::format(", {} could not tell", open) : std::string());
}

Json live_json(const LiveReport& report) {
  Json cases = Json::array();
  for (const LiveCase& one : report.cases) {
    Json json = measured_pass_json(one.pass, one.limiter);
    json["all_tok_s"] = one.tok_s;
    json["conclusion"] = one.conclusion;
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

std::string live_text(const LiveReport& report) {
  std::string text =
      fmt::format("{}, {}, {} layers, {} {}, {} threads\n\n", report.model, report.format,
                  report.layers, report.device, report.isa, report.threads);
  for (const LiveCase& one : report.cases) {
    const MeasuredPass& pass = one.pass;
    text += fmt::format(
        "{}: {:.2f} ms for {} token{}, {:.1f} tok/s, {:.0f} % of the limit of {:.1f} tok/s\n"
        "  {}\n  time: {}\n",
        pass.is_prefill ? "prefill" : "decode", 1e3 * pass.time.total_s(), pass.tokens,
        pass.tokens == 1 ? "" : "s", static_cast<double>(pass.tokens) / pass.time.total_s(),
        100.0 * one.limiter.share_of_limit, static_cast<double>(pass.tokens) / pass.limit.limit_s(),
        one.limiter.sentence, time_text(pass));
    if (!one.conclusion.empty()) text += "  " + one.conclusion + "\n";
  }
  text += "\nexperiments, in turns with the unchanged run:\n";
  int64_t number = 0;
  for (const Experiment& one : report.experiments) {
    const bool was_tried = !one.predicted.because.empty();
    if (was_tried) {
      text += fmt::format("{}. {}\n   because {}\n   {}\n", ++number, prediction_text(one),
                          one.predicted.because, outcome_text(one));
    } else {
      text += fmt::format("{}. {}, {}: not tried: {}\n", ++number, one.id, one.test, one.note);
    }
    if (one.observed_others_cpus) {
      text += fmt::format("   observed meanwhile: {:.1f} CPUs busy with others\n",
                          *one.observed_others_cpus);
    }
  }
  return text + fmt::format("\nmeasured in {:.0f} s\n", report.measure_s);
}

}  // namespace quench
