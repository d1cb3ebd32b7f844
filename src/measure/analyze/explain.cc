#include "measure/analyze/explain.h"

#include <algorithm>
#include <cmath>

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
                                      const Claim& second, std::string& from) {
  std::vector<std::pair<double, std::string>> ratios;
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
                          fmt::format("{} against {} tok/s, {}, {}", *px.decode_tok_s,
                                      *py.decode_tok_s, px.engine, px.source));
    }
  }
  if (ratios.empty()) return std::nullopt;
  std::sort(ratios.begin(), ratios.end());
  const auto& [ratio, text] = ratios[ratios.size() / 2];
  from = text;
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

std::string claim_text(const Claim& claim) {
  const Placement& p = claim.placement;
  std::string text =
      fmt::format("{}, {}, {} on {}{}: ", p.shape.name, p.precision.name, claim.engine_text,
                  p.devices > 1 ? fmt::format("{} x ", p.devices) : "", p.device.name);
  if (claim.memory_bytes) return text + fmt::format("{:.2f} GB claimed", *claim.memory_bytes / 1e9);
  if (claim.latency_s) {
    return text + fmt::format("{:.3g} s claimed{}", *claim.latency_s,
                              claim.has_tokens
                                  ? fmt::format(" for {:.0f} tokens", p.output_tokens)
                                  : fmt::format(", length unknown ({:.0f} tokens assumed)",
                                                p.output_tokens));
  }
  return text + fmt::format("{:.4g} tok/s claimed", *claim.tok_s);
}

std::string expectation_text(const Explanation& e) {
  const Interval& request = e.sound.request_s;
  if (e.claim.memory_bytes) {
    MemoryTerms running = e.sound.memory;
    running.load_peak_bytes = 0.0;
    return fmt::format(
        "{:.2f} GB: weights {:.2f}, keys and values {:.2f}, activations {:.2f}, copies "
        "and tables {:.2f}",
        running.total_bytes() / 1e9, running.weights_bytes / 1e9, running.kv_bytes / 1e9,
        running.activations_bytes / 1e9, running.overhead_bytes / 1e9);
  }
  if (e.claim.tok_s) {
    const Interval& tok_s = e.sound.decode_tok_s;
    return fmt::format("{:.1f} tok/s (90 %: {:.1f} to {:.1f})", tok_s.value, tok_s.low, tok_s.high);
  }
  return fmt::format("{:.3g} s (90 %: {:.3g} to {:.3g})", request.value, request.low, request.high);
}

std::string nearest_text(const Explanation& e) {
  if (e.nearest == nullptr) return "none of this engine";
  const PublishedRow& row = e.nearest->published;
  const std::string figure = e.claim.memory_bytes
                                 ? fmt::format("{:.2f} GB", *row.memory_bytes / 1e9)
                                 : fmt::format("{:.4g} tok/s", *row.decode_tok_s);
  const std::string devices = row.devices > 1 ? fmt::format("{} x ", row.devices) : "";
  return fmt::format("{} {}, {}, {}{}, prompt {}: {} ({})", row.model, row.precision, row.engine,
                     devices, row.device, row.prompt_tokens, figure, row.source);
}

std::string verdict_text(const Explanation& e) {
  switch (e.verdict) {
    case Verdict::kAsExpected:
      return "as expected";
    case Verdict::kImpossible:
      return fmt::format("impossible: the device's peaks alone allow {}{}",
                         e.claim.tok_s ? "at most " : "no less than ", e.claim.text_of(e.limit_s));
    case Verdict::kDoesNotFit: {
      const Shortage shortage = find_shortage(e.claim, e.sound).value();
      return fmt::format(
          "does not fit: {:.1f} GB are needed, {:.1f} GB can be used; with the rest in host memory "
          "{} {}",
          shortage.needed_bytes / 1e9, shortage.usable_bytes / 1e9,
          e.claim.tok_s ? "it would be at most" : "it would take at least",
          e.claim.text_of(shortage.low_s));
    }
    case Verdict::kFaster:
      return fmt::format("{:.1f} times faster than expected", 1.0 / e.factor);
    case Verdict::kSlower:
      return fmt::format("{:.1f} times slower than expected", e.factor);
    case Verdict::kMore:
      return fmt::format("{:.2f} times what is needed", e.factor);
    case Verdict::kLess:
      return fmt::format("{:.2f} times less than needed", 1.0 / e.factor);
  }
  return "";
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
    const char* text;
  };
  const double dense = check.dense_tflops;
  const Meaning meanings[] = {
      {dense, "that is the dense rate with sums in f32, the one that counts"},
      {dense / 16.0,
       "that is the rate of f32 without tensor cores; weights in 16 bits run at 16 "
       "times that"},
      {dense / 2.0, "that is half the dense rate: f32 values through tensor cores (TF32)"},
      {dense * 2.0, "that is the sparse rate (2:4); dense models get half"},
      {device.find("fp16_acc16_tflops").value_or(-1.0),
       "that is the rate with sums in f16, which language models do not use"},
      {device.find("int8_tops").value_or(-1.0), "that is the rate of int8"}};
  for (const Meaning& meaning : meanings) {
    if (meaning.tflops <= 0.0 || std::fabs(std::log(claimed / meaning.tflops)) > 0.05) continue;
    check.is_right = &meaning == &meanings[0];
    check.meaning = meaning.text;
    break;
  }
  if (check.meaning.empty())
    check.meaning = fmt::format("that is {:.2f} times the dense rate and no rate of its sheet",
                                claimed / dense);
  return check;
}

Json explain_json(const ExplainReport& report) {
  Json json = {{"schema", "quench.explain/1"}, {"claims", Json::array()}};
  for (const Explanation& e : report.claims) {
    const Placement& p = e.claim.placement;
    auto or_null = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
    Json hypotheses = Json::array();
    for (const Hypothesis& h : e.hypotheses) {
      hypotheses.push_back({{"id", h.id},
                            {"fits", h.fits},
                            {"score", h.score},
                            {"statement", h.statement},
                            {"check", h.check},
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
         {"nearest", e.nearest != nullptr ? Json(nearest_text(e)) : Json()},
         {"hypotheses", hypotheses}});
  }
  json["pair"] = nullptr;
  if (report.pair) {
    const PairExplanation& pair = *report.pair;
    json["pair"] = {
        {"observed_ratio", pair.observed_ratio},
        {"predicted_ratio", pair.predicted_ratio},
        {"published_ratio", pair.published_ratio ? Json(*pair.published_ratio) : Json()},
        {"published_from", pair.published_ratio ? Json(pair.published_from) : Json()},
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
                    {"meaning", report.peak->meaning}};
  }
  return json;
}

std::string explain_text(const ExplainReport& report) {
  std::string text;
  if (report.peak) {
    text +=
        fmt::format("{:.4g} TFLOPS claimed for 16 bits: {}; {:.4g} dense is what counts.\n\n",
                    report.peak->claimed_tflops, report.peak->meaning, report.peak->dense_tflops);
  }
  if (report.pair) {
    const PairExplanation& pair = *report.pair;
    text += fmt::format("observed ratio {:.1f}; to be expected:\n", pair.observed_ratio);
    if (pair.published_ratio) {
      text += fmt::format("  {:.2f} published ({})\n", *pair.published_ratio, pair.published_from);
    }
    text += fmt::format("  {:.2f} predicted for this engine\n", pair.predicted_ratio);
    text += fmt::format("  {:.2f} by the bytes of the weights, if bandwidth were the limit\n",
                        pair.weights_ratio);
    text += fmt::format("  {:.2f} by the number of layers, if the host were the limit\n",
                        pair.layers_ratio);
    text += fmt::format("  not {:.1f}: time does not grow with the square of the size\n",
                        pair.square_ratio);
    if (pair.implied_tokens) {
      text += fmt::format(
          "no length was given: {:.0f} tokens, which the faster one's time implies, "
          "are taken for both\n",
          *pair.implied_tokens);
    }
    text += "\n";
  }
  for (const Explanation& e : report.claims) {
    text += claim_text(e.claim) + "\n";
    text += "  expected: " + expectation_text(e) + ", from " +
            Strings::of("en")(e.sound.calibration.basis) + "\n";
    text += "  nearest published: " + nearest_text(e) + "\n";
    text +=
        fmt::format("  verdict: {}{}\n", verdict_text(e), e.is_flagged ? "; a known anomaly" : "");
    if (e.verdict == Verdict::kAsExpected) {
      text +=
          fmt::format("  what limits it: {}\n", bound_sentence(e.claim.placement, e.sound.step));
      continue;
    }
    int shown = 0;
    for (const Hypothesis& h : e.hypotheses) {
      if (!h.fits || ++shown > 6) continue;
      text += fmt::format("  {}. {}\n     check: {}\n", shown, h.statement, h.check);
    }
    if (shown == 0) text += "  no single cause fits; look for two at once\n";
    std::string misses;
    for (const Hypothesis& h : e.hypotheses) {
      if (h.fits || e.claim.memory_bytes) continue;
      std::string name = h.id;
      std::replace(name.begin(), name.end(), '-', ' ');
      const std::string low = e.claim.text_of(h.low_s);
      const std::string high = e.claim.text_of(h.high_s);
      misses += fmt::format("{}{} ({})", misses.empty() ? "" : ", ", name,
                            low == high ? low : low + " to " + high);
    }
    if (!misses.empty()) text += "  do not fit: " + misses + "\n";
  }
  return text;
}

}  // namespace quench
