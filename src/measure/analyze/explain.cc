#include "measure/analyze/explain.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "measure/analyze/deploy.h"

namespace quench {
namespace {

Explanation explain_one(const Predictor& predictor, const Claim& claim) {
  const Placement& p = claim.placement;
  Explanation result;
  result.claim = claim;
  result.sound = Predictor::predict(p, predictor.calibrate(p, claim.engine_text, {.sound = true}));
  result.seen = Predictor::predict(p, predictor.calibrate(p, claim.engine_text));
  const StepTerms& step = result.sound.step;
  const double bandwidth = p.device.read_bytes_per_s();
  const double weights_s = step.weights_bytes / bandwidth;
  result.limit_s = std::max(weights_s + step.kv_bytes / bandwidth,
                            step.flop / (p.device.at("bf16_tflops") * 1e12)) *
                   p.output_tokens;
  result.nearest = predictor.nearest(p, claim.engine_text, claim.memory_bytes.has_value());
  if (claim.memory_bytes) {
    // A load peak is a trap of the figure's, not a need: it is named as a cause.
    MemoryTerms running = result.sound.memory;
    running.load_peak_bytes = 0.0;
    const double expected = running.total_bytes();
    result.factor = *claim.memory_bytes / expected;
    const double slack =
        std::max(0.1, std::log(result.sound.memory_bytes.high / result.sound.memory_bytes.value));
    if (std::fabs(std::log(result.factor)) > slack)
      result.verdict = result.factor > 1.0 ? Verdict::kMore : Verdict::kLess;
    result.hypotheses = memory_hypotheses(predictor, claim, result.sound);
  } else {
    const double observed = claim.request_s();
    result.factor = observed / result.sound.request_s.value;
    const bool knows_length = claim.has_tokens || claim.tok_s;
    if (knows_length && observed < result.limit_s) {
      result.verdict = Verdict::kImpossible;
    } else if (const auto shortage = find_shortage(claim, result.sound);
               knows_length && shortage && shortage->rules_out(observed)) {
      result.verdict = Verdict::kDoesNotFit;
    } else if (observed < result.sound.request_s.low) {
      result.verdict = Verdict::kFaster;
    } else if (observed > result.sound.request_s.high) {
      result.verdict = Verdict::kSlower;
    }
    result.hypotheses = time_hypotheses(predictor, claim, result.sound, result.seen);
  }
  const Subject subject = {p.engine.name, p.precision.name, &p.shape, p.devices,
                           static_cast<int64_t>(p.prompt_tokens)};
  for (const Anomaly* anomaly :
       find_anomalies(predictor.anomalies(), subject, claim.memory_bytes.has_value())) {
    for (const Hypothesis& h : result.hypotheses)
      result.is_flagged |= h.id == anomaly->id && h.fits && result.verdict != Verdict::kAsExpected;
  }
  return result;
}

// Ratios of the two models in rows that are otherwise alike, the second model's time over the
// first's.
std::optional<double> published_ratio(const Predictor& predictor, const Claim& first,
                                      const Claim& second, Sentence& from) {
  std::vector<std::pair<double, Sentence>> ratios;
  const Placement& a = first.placement;
  const Placement& b = second.placement;
  for (const Predictor::Row& x : predictor.rows()) {
    const PublishedRow& px = x.published;
    if (!px.decode_tok_s || x.setup.shape.name != a.shape.name ||
        x.setup.engine.name != a.engine.name || x.setup.precision.name != a.precision.name ||
        !x.setup.device.same_silicon(a.device) || px.prompt_tokens > 2048)
      continue;
    for (const Predictor::Row& y : predictor.rows()) {
      const PublishedRow& py = y.published;
      if (!py.decode_tok_s || y.setup.shape.name != b.shape.name || py.source != px.source ||
          py.engine != px.engine || y.setup.precision.name != b.precision.name ||
          py.device != px.device || py.prompt_tokens != px.prompt_tokens ||
          py.output_tokens != px.output_tokens || py.devices != px.devices || py.batch != px.batch)
        continue;
      ratios.emplace_back(*px.decode_tok_s / *py.decode_tok_s,
                          Sentence{"explain.pair.rows",
                                   {{"first", fmt::format("{}", *px.decode_tok_s)},
                                    {"second", fmt::format("{}", *py.decode_tok_s)},
                                    {"engine", px.engine},
                                    {"source", px.source}}});
    }
  }
  if (ratios.empty()) return std::nullopt;
  std::sort(ratios.begin(), ratios.end(), [](const auto& x, const auto& y) {
    return std::tie(x.first, x.second.values) < std::tie(y.first, y.second.values);
  });
  const auto& [ratio, rows] = ratios[ratios.size() / 2];
  from = rows;
  return ratio;
}

PairExplanation explain_pair(const Predictor& predictor, std::vector<Claim>& claims) {
  PairExplanation pair;
  Claim& first = claims[0];
  Claim& second = claims[1];
  pair.observed_ratio = second.request_s() / first.request_s();
  auto predict = [&](const Claim& claim) {
    return Predictor::predict(
        claim.placement, predictor.calibrate(claim.placement, claim.engine_text, {.sound = true}));
  };
  Prediction a = predict(first);
  Prediction b = predict(second);
  if (!first.has_tokens && !second.has_tokens && first.latency_s && second.latency_s) {
    // Whichever is nearer to what is expected gives the length.
    const bool first_is_faster =
        *first.latency_s / a.tpot_s.value < *second.latency_s / b.tpot_s.value;
    const double s =
        first_is_faster ? *first.latency_s - a.ttft_s.value : *second.latency_s - b.ttft_s.value;
    const double step = first_is_faster ? a.tpot_s.value : b.tpot_s.value;
    pair.implied_tokens = std::max(1.0, std::round(s / step + 1.0));
    first.placement.output_tokens = second.placement.output_tokens = *pair.implied_tokens;
    a = predict(first);
    b = predict(second);
  }
  pair.predicted_ratio = b.tpot_s.value / a.tpot_s.value;
  pair.weights_ratio = b.step.weights_bytes / a.step.weights_bytes;
  pair.layers_ratio = second.placement.shape.layers() / first.placement.shape.layers();
  const double parameters = second.placement.shape.parameters / first.placement.shape.parameters;
  pair.square_ratio = parameters * parameters;
  pair.published_ratio = published_ratio(predictor, first, second, pair.published_from);
  return pair;
}

std::string devices_text(int64_t devices, const std::string& device) {
  return devices > 1 ? fmt::format("{} x {}", devices, device) : device;
}

std::string claim_text(const Claim& claim, const Strings& strings) {
  const Placement& p = claim.placement;
  const std::string device = devices_text(p.devices, p.device.name);
  Sentence claimed = {"explain.claim.speed",
                      {{"tok_s", fmt::format("{:.4g}", claim.tok_s.value_or(0.0))}}};
  if (claim.memory_bytes) {
    claimed = {"explain.claim.memory", {{"gb", fixed(*claim.memory_bytes / 1e9, 2)}}};
  } else if (claim.latency_s) {
    claimed = {
        claim.has_tokens ? "explain.claim.latency" : "explain.claim.latency_only",
        {{"s", fmt::format("{:.3g}", *claim.latency_s)}, {"tokens", fixed(p.output_tokens, 0)}}};
  }
  return strings("explain.claim", {{"model", p.shape.name},
                                   {"precision", p.precision.name},
                                   {"engine", claim.engine_text},
                                   {"device", device},
                                   {"claimed", strings(claimed)}});
}

Sentence expectation(const Explanation& e) {
  const Interval& request = e.sound.request_s;
  if (e.claim.memory_bytes) {
    MemoryTerms running = e.sound.memory;
    running.load_peak_bytes = 0.0;
    return {"explain.expected.memory",
            {{"total", fixed(running.total_bytes() / 1e9, 2)},
             {"weights", fixed(running.weights_bytes / 1e9, 2)},
             {"kv", fixed(running.kv_bytes / 1e9, 2)},
             {"activations", fixed(running.activations_bytes / 1e9, 2)},
             {"overhead", fixed(running.overhead_bytes / 1e9, 2)}}};
  }
  if (e.claim.tok_s) {
    const Interval& tok_s = e.sound.decode_tok_s;
    return {"explain.expected.speed",
            {{"tok_s", fixed(tok_s.value, 1)},
             {"low", fixed(tok_s.low, 1)},
             {"high", fixed(tok_s.high, 1)}}};
  }
  auto three_digits = [](double value) { return fmt::format("{:.3g}", value); };
  return {"explain.expected.latency",
          {{"s", three_digits(request.value)},
           {"low", three_digits(request.low)},
           {"high", three_digits(request.high)}}};
}

Sentence nearest(const Explanation& e) {
  if (e.nearest == nullptr) return {"explain.nearest.none"};
  const PublishedRow& row = e.nearest->published;
  return {"explain.nearest.row",
          {{"model", row.model},
           {"precision", row.precision},
           {"engine", row.engine},
           {"device", devices_text(row.devices, row.device)},
           {"prompt", std::to_string(row.prompt_tokens)},
           {"figure", e.claim.memory_bytes ? fmt::format("{:.2f} GB", *row.memory_bytes / 1e9)
                                           : fmt::format("{:.4g} tok/s", *row.decode_tok_s)},
           {"source", row.source}}};
}

Sentence verdict_sentence(const Explanation& e) {
  const char* const unit = e.claim.tok_s ? ".speed" : ".time";
  switch (e.verdict) {
    case Verdict::kAsExpected:
      return {"explain.verdict.as_expected"};
    case Verdict::kImpossible:
      return {std::string("explain.verdict.impossible") + unit,
              {{"limit", e.claim.text_of(e.limit_s)}}};
    case Verdict::kDoesNotFit: {
      const Shortage shortage = find_shortage(e.claim, e.sound).value();
      return {std::string("explain.verdict.does_not_fit") + unit,
              {{"needed", fixed(shortage.needed_bytes / 1e9, 1)},
               {"usable", fixed(shortage.usable_bytes / 1e9, 1)},
               {"limit", e.claim.text_of(shortage.low_s)}}};
    }
    case Verdict::kFaster:
      return {"explain.verdict.faster", {{"factor", fixed(1.0 / e.factor, 1)}}};
    case Verdict::kSlower:
      return {"explain.verdict.slower", {{"factor", fixed(e.factor, 1)}}};
    case Verdict::kMore:
      return {"explain.verdict.more", {{"factor", fixed(e.factor, 2)}}};
    case Verdict::kLess:
      return {"explain.verdict.less", {{"factor", fixed(1.0 / e.factor, 2)}}};
  }
  return {};
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  constexpr const char* kNames[] = {"as_expected", "slower", "faster",      "impossible",
                                    "less",        "more",   "does_not_fit"};
  return kNames[static_cast<int>(verdict)];
}

Result<ExplainReport> explain_claims(const Predictor& predictor, std::vector<Claim> claims) {
  for (const Claim& claim : claims) {
    const int given = static_cast<int>(claim.latency_s.has_value()) +
                      static_cast<int>(claim.tok_s.has_value()) +
                      static_cast<int>(claim.memory_bytes.has_value());
    if (given != 1) {
      return fail(ErrorCode::kInvalidArgument,
                  "A claim about {} needs one number: a latency, tokens per second or memory.",
                  claim.placement.shape.name);
    }
  }
  ExplainReport report;
  if (claims.size() == 2 && !claims[0].memory_bytes && !claims[1].memory_bytes)
    report.pair = explain_pair(predictor, claims);
  for (const Claim& claim : claims) report.claims.push_back(explain_one(predictor, claim));
  return report;
}

PeakCheck check_peak(const Hardware& device, double claimed) {
  PeakCheck check;
  check.claimed_tflops = claimed;
  check.dense_tflops = device.at("bf16_tflops");
  struct Meaning {
    double tflops;
    const char* key;
  };
  const double dense = check.dense_tflops;
  const Meaning meanings[] = {
      {dense, "explain.peak.dense"},
      {dense / 16.0, "explain.peak.f32"},
      {dense / 2.0, "explain.peak.tf32"},
      {dense * 2.0, "explain.peak.sparse"},
      {device.find("fp16_acc16_tflops").value_or(-1.0), "explain.peak.f16_sums"},
      {device.find("int8_tops").value_or(-1.0), "explain.peak.int8"}};
  for (const Meaning& meaning : meanings) {
    if (meaning.tflops <= 0.0 || std::fabs(std::log(claimed / meaning.tflops)) > 0.05) continue;
    check.is_right = &meaning == &meanings[0];
    check.meaning = {meaning.key};
    break;
  }
  if (check.meaning.key.empty())
    check.meaning = {"explain.peak.none", {{"factor", fixed(claimed / dense, 2)}}};
  return check;
}

Json explain_json(const ExplainReport& report) {
  const Strings& english = Strings::of("en");
  Json json = {{"schema", "quench.explain/1"}, {"claims", Json::array()}};
  for (const Explanation& e : report.claims) {
    const Placement& p = e.claim.placement;
    auto or_null = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
    Json hypotheses = Json::array();
    for (const Hypothesis& h : e.hypotheses) {
      hypotheses.push_back({{"id", h.id},
                            {"fits", h.fits},
                            {"score", h.score},
                            {"statement", english(h.statement)},
                            {"check", english(h.check)},
                            {e.claim.memory_bytes ? "low_bytes" : "low_s", h.low_s},
                            {e.claim.memory_bytes ? "high_bytes" : "high_s", h.high_s}});
    }
    json["claims"].push_back(
        {{"model", p.shape.name},
         {"engine", e.claim.engine_text},
         {"precision", p.precision.name},
         {"device", p.device.name},
         {"devices", p.devices},
         {"latency_s", or_null(e.claim.latency_s)},
         {"tok_s", or_null(e.claim.tok_s)},
         {"memory_bytes", or_null(e.claim.memory_bytes)},
         {"output_tokens", p.output_tokens},
         {"output_tokens_known", e.claim.has_tokens || e.claim.tok_s.has_value()},
         {"verdict", verdict_name(e.verdict)},
         {"factor", e.factor},
         {"flagged", e.is_flagged},
         {"expected",
          {{"request_s", interval_json(e.sound.request_s)},
           {"tpot_s", interval_json(e.sound.tpot_s)},
           {"decode_tok_s", interval_json(e.sound.decode_tok_s)},
           {"memory_bytes", interval_json(e.sound.memory_bytes)},
           {"bound", e.sound.step.bound()},
           {"basis", Strings::of("en")(e.sound.calibration.basis)}}},
         {"limit_s", e.limit_s},
         {"nearest", e.nearest != nullptr ? Json(english(nearest(e))) : Json()},
         {"hypotheses", hypotheses}});
  }
  json["pair"] = nullptr;
  if (report.pair) {
    const PairExplanation& pair = *report.pair;
    json["pair"] = {
        {"observed_ratio", pair.observed_ratio},
        {"predicted_ratio", pair.predicted_ratio},
        {"published_ratio", pair.published_ratio ? Json(*pair.published_ratio) : Json()},
        {"published_from", pair.published_ratio ? Json(english(pair.published_from)) : Json()},
        {"weights_ratio", pair.weights_ratio},
        {"layers_ratio", pair.layers_ratio},
        {"square_ratio", pair.square_ratio},
        {"implied_tokens", pair.implied_tokens ? Json(*pair.implied_tokens) : Json()}};
  }
  json["peak"] = nullptr;
  if (report.peak) {
    json["peak"] = {{"claimed_tflops", report.peak->claimed_tflops},
                    {"dense_tflops", report.peak->dense_tflops},
                    {"right", report.peak->is_right},
                    {"meaning", english(report.peak->meaning)}};
  }
  return json;
}

namespace {

std::string pair_text(const PairExplanation& pair, const Strings& strings) {
  std::string text =
      strings("explain.pair.observed", {{"ratio", fixed(pair.observed_ratio, 1)}}) + "\n";
  auto line = [&](const char* key, double ratio, int decimals) {
    text += "  " + strings(key, {{"ratio", fixed(ratio, decimals)}}) + "\n";
  };
  if (pair.published_ratio) {
    text += "  " +
            strings("explain.pair.published", {{"ratio", fixed(*pair.published_ratio, 2)},
                                               {"from", strings(pair.published_from)}}) +
            "\n";
  }
  line("explain.pair.predicted", pair.predicted_ratio, 2);
  line("explain.pair.weights", pair.weights_ratio, 2);
  line("explain.pair.layers", pair.layers_ratio, 2);
  line("explain.pair.square", pair.square_ratio, 1);
  if (pair.implied_tokens) {
    text += strings("explain.pair.implied", {{"tokens", fixed(*pair.implied_tokens, 0)}}) + "\n";
  }
  return text + "\n";
}

// The causes whose arithmetic fits, and by name those whose does not.
std::string causes_text(const Explanation& e, const Strings& strings) {
  std::string text;
  std::vector<std::string> misses;
  int shown = 0;
  for (const Hypothesis& h : e.hypotheses) {
    if (!h.fits || ++shown > 6) continue;
    text += fmt::format("  {}. {}\n     {}{}\n", shown, strings(h.statement),
                        strings("explain.check"), strings(h.check));
  }
  if (shown == 0) text += "  " + strings("explain.no_cause") + "\n";
  for (const Hypothesis& h : e.hypotheses) {
    if (h.fits || e.claim.memory_bytes) continue;
    const std::string low = e.claim.text_of(h.low_s);
    const std::string high = e.claim.text_of(h.high_s);
    const std::string range =
        low == high ? low : strings("explain.range", {{"low", low}, {"high", high}});
    misses.push_back(fmt::format("{} ({})", strings("explain.name." + h.id), range));
  }
  if (!misses.empty())
    text += "  " + strings("explain.misses", {{"causes", strings.join(misses)}}) + "\n";
  return text;
}

}  // namespace

std::string explain_text(const ExplainReport& report, const Strings& strings) {
  std::string text;
  if (report.peak) {
    text += strings("explain.peak_line",
                    {{"claimed", fmt::format("{:.4g}", report.peak->claimed_tflops)},
                     {"meaning", strings(report.peak->meaning)},
                     {"dense", fmt::format("{:.4g}", report.peak->dense_tflops)}}) +
            "\n\n";
  }
  if (report.pair) text += pair_text(*report.pair, strings);
  for (const Explanation& e : report.claims) {
    auto line = [&](const char* key, const std::string& what) {
      text += "  " + strings(key, {{"what", what}}) + "\n";
    };
    text += claim_text(e.claim, strings) + "\n";
    text += "  " +
            strings("explain.expected", {{"what", strings(expectation(e))},
                                         {"basis", strings(e.sound.calibration.basis)}}) +
            "\n";
    line("explain.nearest", strings(nearest(e)));
    line(e.is_flagged ? "explain.verdict.flagged" : "explain.verdict",
         strings(verdict_sentence(e)));
    if (e.verdict == Verdict::kAsExpected) {
      line("explain.limited_by", strings(bound_sentence(e.claim.placement, e.sound.step)));
      continue;
    }
    text += causes_text(e, strings);
  }
  return text;
}

}  // namespace quench
