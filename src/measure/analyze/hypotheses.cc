#include "measure/analyze/hypotheses.h"

#include <algorithm>
#include <cmath>

#include "measure/analyze/deploy.h"

namespace quench {
namespace {

// Sustained share of a host link, and what one core after the other makes of a host's memory.
constexpr double kLinkShare = 0.78;
constexpr double kHostLowBytesPerS = 15e9;
constexpr double kHostHighBytesPerS = 200e9;
// A claim this far outside a range still fits: published figures are rounded, programs differ.
constexpr double kSlack = 1.25;
// What published memory is off by at most (docs/predicting.md).
constexpr double kMemorySlack = 1.03;

using Values = std::map<std::string, std::string>;

std::string gb(double bytes, int decimals) { return fixed(bytes / 1e9, decimals); }

class Collector {
 public:
  explicit Collector(double observed) : observed_(observed) {}

  // plausibility: how often this is the cause, 0 to 1, by the threads that are named in
  // docs/predicting.md. The statement has the id's name unless another is given.
  Hypothesis& add(const std::string& id, double plausibility, double low, double high,
                  Values values = {}, const std::string& name = "") {
    const std::string key = "explain.cause." + (name.empty() ? id : name);
    Hypothesis h = {id, {key, std::move(values)}, {key + ".check"}, low, high};
    h.fits = observed_ >= low / kSlack && observed_ <= high * kSlack;
    const double width = std::log(std::max(high / low, 1.0)) + 0.5;
    const double off = observed_ < low    ? std::log(low / observed_)
                       : observed_ > high ? std::log(observed_ / high)
                                          : 0.0;
    h.score = plausibility / width * std::exp(-2.0 * off);
    return all_.emplace_back(std::move(h));
  }
  Hypothesis& add(const Anomaly& anomaly, double low, double high) {
    Hypothesis& h = add(anomaly.id, 3.0, low, high);
    h.statement.key = "explain.anomaly." + anomaly.id;
    h.check.key = h.statement.key + ".check";
    return h;
  }

  std::vector<Hypothesis> ranked() && {
    std::stable_sort(all_.begin(), all_.end(), [](const Hypothesis& a, const Hypothesis& b) {
      return a.fits != b.fits ? a.fits : a.score > b.score;
    });
    return std::move(all_);
  }

 private:
  double observed_;
  std::vector<Hypothesis> all_;
};

Subject subject_of(const Placement& p) {
  return {p.engine.name, p.precision.name, &p.shape, p.devices,
          static_cast<int64_t>(p.prompt_tokens)};
}

bool is_quantized(const Precision& precision) { return precision.weight_bits < 16.0; }

double link_bytes_per_s(const Hardware& device) {
  return device.find("pcie_gb_s").value_or(16.0) * kLinkShare * 1e9;
}

// Three digits, never an exponent.
std::string digits(double value) {
  return value < 100.0 ? fmt::format("{:.3g}", value) : fmt::format("{:.0f}", value);
}

// Causes that the model itself has arithmetic for.
void add_modelled(const Predictor& predictor, const Claim& claim, const Prediction& sound,
                  Collector& all) {
  const Placement& p = claim.placement;
  const double expected = sound.request_s.value;
  const double tokens = p.output_tokens;
  if (!is_quantized(p.precision)) {
    Placement wide = p;
    if (const auto fp32 = predictor.engines().precision("fp32")) wide.precision = *fp32;
    const double s = request_s(wide, sound.calibration.constants);
    all.add("fp32", 0.4, s, 1.2 * std::max(s, 2.0 * expected),
            {{"gb", gb(stored_weights_bytes(wide.shape, wide.precision), 1)},
             {"said_gb", gb(sound.memory.weights_bytes, 1)},
             {"expected", claim.text_of(s)}});
  }
  // Without a cache every step is a prefill of all that came before.
  Placement whole = p;
  whole.prompt_tokens = std::max(2.0, p.prompt_tokens + tokens / 2.0);
  const double step_s = prefill(whole, sound.calibration.constants).total_s;
  if (tokens * step_s > 1.3 * expected) {
    all.add("no-cache", 0.15, tokens * step_s, tokens * step_s,
            {{"tokens", fixed(whole.prompt_tokens, 0)}, {"ms", fixed(step_s * 1e3, 1)}});
  }
  if (!p.device.has_own_memory()) return;
  const double bytes = sound.memory.weights_bytes;
  all.add("host-fallback", 0.25, tokens * sound.step.weights_bytes / kHostHighBytesPerS,
          tokens * sound.step.weights_bytes / kHostLowBytesPerS,
          {{"gb", gb(bytes, 1)},
           {"low", gb(kHostLowBytesPerS, 0)},
           {"high", gb(kHostHighBytesPerS, 0)}});
}

void add_offload(const Claim& claim, const Prediction& sound, Collector& all) {
  const Placement& p = claim.placement;
  if (!p.device.has_own_memory()) return;
  if (const auto shortage = find_shortage(claim, sound)) {
    all.add("does-not-fit", 8.0, shortage->low_s, shortage->high_s,
            {{"needed", gb(shortage->needed_bytes, 1)},
             {"usable", gb(shortage->usable_bytes, 1)},
             {"missing", gb(shortage->missing_bytes(), 1)},
             {"link", gb(shortage->link_bytes_per_s, 0)},
             {"ms", fixed(shortage->missing_bytes() / shortage->link_bytes_per_s * 1e3, 0)}});
    return;
  }
  const double link = link_bytes_per_s(p.device);
  const double weights = sound.memory.weights_bytes;
  const double steps = std::max(p.output_tokens, 1.0);
  const double implied = (claim.request_s() - sound.request_s.value) / steps * link;
  if (implied <= 0.02 * weights) return;
  Hypothesis& offload =
      all.add("offload", 0.9, sound.request_s.value + steps * 0.02 * weights / link,
              sound.request_s.value + steps * weights / link,
              {{"link", gb(link, 0)},
               {"implied", gb(std::min(implied, weights), 1)},
               {"percent", fixed(100.0 * std::min(implied / weights, 1.0), 0)},
               {"gb", gb(weights, 1)}});
  if (p.engine.kind == "native") offload.check.key += ".native";
}

// Causes known from published rows and threads, as factors of the expected time.
void add_factors(const Predictor& predictor, const Claim& claim, const Prediction& sound,
                 Collector& all) {
  const Placement& p = claim.placement;
  const double expected = sound.request_s.value;
  const double factor = claim.request_s() / expected;
  const bool is_eager = p.engine.kind == "eager";
  if (is_eager && p.precision.name != "bnb-int8") {
    all.add("bnb-int8", 0.3, 3.5 * expected, 4.2 * expected);
  }
  const bool is_native = p.engine.kind == "native";
  if (is_native) {
    all.add("plain-build", 0.5, 2.0 * expected, 10.0 * expected);
  } else if (is_quantized(p.precision) && p.precision.name.find("bnb") == std::string::npos) {
    all.add("no-kernel", 0.8, 5.0 * expected, 20.0 * expected);
  }
  all.add("neighbours", 0.6, 1.4 * expected, 4.0 * expected,
          {{"count", std::to_string(std::max(1, static_cast<int>(std::lround(factor - 1.0))))},
           {"factor", fixed(factor, 1)}});
  if (p.device.kind == "cpu") {
    all.add("memory-channels", 0.4, 1.3 * expected, 8.0 * expected);
  }
  if (p.device.has_own_memory()) all.add("layer-split", 0.4, 1.3 * expected, 10.0 * expected);
  const double slower_host = sound.step.host_s > 0.0
                                 ? request_s(p,
                                             [&] {
                                               StepConstants c = sound.calibration.constants;
                                               c[kHostPerLayer] *= 3.0;
                                               return c;
                                             }())
                                 : expected;
  if (slower_host > 1.2 * expected) {
    all.add("slow-host", 0.4, 1.2 * expected, slower_host,
            {{"ms", fixed(sound.calibration.constants[kHostPerLayer] * 1e3, 2)}});
  }
  for (const Anomaly* anomaly : find_anomalies(predictor.anomalies(), subject_of(p), false)) {
    all.add(*anomaly, 1.3 * expected, 200.0 * expected);
  }
}

// What only a single latency leaves open.
void add_unknowns(const Claim& claim, const Prediction& sound, Collector& all) {
  const double observed = claim.request_s();
  if (!claim.latency_s) return;
  const double per_token = sound.tpot_s.value;
  if (!claim.has_tokens) {
    const double tokens = (observed - sound.ttft_s.value) / per_token + 1.0;
    all.add("longer-answer", 0.9, 2.0 * sound.request_s.value,
            sound.ttft_s.value + 2048.0 * per_token,
            {{"assumed", fixed(claim.placement.output_tokens, 0)},
             {"tokens", fixed(std::max(tokens, 1.0), 0)},
             {"ms", fixed(per_token * 1e3, 1)}});
  }
  const double prompt = (observed - sound.request_s.value) *
                        sound.calibration.constants[kPrefillShare] *
                        claim.placement.device.at("bf16_tflops") * 1e12 /
                        (2.0 * claim.placement.shape.active_weights);
  if (claim.placement.prompt_tokens < 16.0 && prompt > 16.0) {
    all.add("long-prompt", 0.3, 1.2 * sound.request_s.value, sound.request_s.value + 8.0,
            {{"tokens", fixed(prompt, 0)}});
  }
  all.add("first-call", 0.5, sound.request_s.value + 1.0, sound.request_s.value + 30.0);
}

// What makes a number look too good.
void add_faster(const Claim& claim, const Prediction& sound, Collector& all) {
  const Placement& p = claim.placement;
  const double expected = sound.request_s.value;
  if (p.prompt_tokens > 0.05 * p.output_tokens) {
    const double factor = (p.prompt_tokens + p.output_tokens) / p.output_tokens;
    all.add("prompt-counted", 0.9, sound.request_s.low / factor, sound.request_s.high / factor,
            {{"factor", fixed(factor, 1)},
             {"tok_s", digits(p.output_tokens * p.batch / claim.request_s() / factor)}});
  }
  all.add("batch-counted", 0.6, expected / 64.0, expected / 1.5);
  all.add("speculation", 0.4, expected / 4.0, expected / 1.3);
  const auto shortage = find_shortage(claim, sound);
  all.add("fewer-bits", 0.5, expected / 4.0, shortage ? expected : expected / 1.5);
  if (!shortage) return;
  const double devices =
      std::ceil(shortage->needed_bytes * static_cast<double>(p.devices) / shortage->usable_bytes);
  all.add("more-devices", 0.9, expected / devices, sound.request_s.high,
          {{"devices", fixed(devices, 0)}});
}

}  // namespace

double Claim::request_s() const {
  return latency_s ? *latency_s : placement.output_tokens * placement.batch / tok_s.value_or(1.0);
}

std::string Claim::text_of(double time_s) const {
  return tok_s ? digits(placement.output_tokens * placement.batch / time_s) + " tok/s"
               : digits(time_s) + " s";
}

bool Shortage::rules_out(double request_s) const { return request_s < low_s / kSlack; }

std::optional<Shortage> find_shortage(const Claim& claim, const Prediction& sound) {
  const Placement& p = claim.placement;
  if (!p.device.has_own_memory()) return std::nullopt;
  Shortage result;
  // What loading needs for a moment is no need of running.
  MemoryTerms running = sound.memory;
  running.load_peak_bytes = 0.0;
  result.needed_bytes = running.total_bytes();
  result.usable_bytes = usable_bytes(p.device) * static_cast<double>(p.devices);
  if (result.needed_bytes <= kMemorySlack * result.usable_bytes) return std::nullopt;
  result.link_bytes_per_s = link_bytes_per_s(p.device);
  const double weights = running.weights_bytes;
  const double steps = std::max(p.output_tokens, 1.0);
  result.low_s = sound.request_s.value +
                 steps * std::min(result.missing_bytes(), weights) / result.link_bytes_per_s;
  result.high_s = sound.request_s.value + steps * weights / (0.25 * result.link_bytes_per_s);
  return result;
}

std::vector<Hypothesis> time_hypotheses(const Predictor& predictor, const Claim& claim,
                                        const Prediction& sound, const Prediction& seen) {
  Collector all(claim.request_s());
  const auto shortage = find_shortage(claim, sound);
  if (claim.request_s() < sound.request_s.value ||
      (shortage && shortage->rules_out(claim.request_s()))) {
    add_faster(claim, sound, all);
    return std::move(all).ranked();
  }
  add_modelled(predictor, claim, sound, all);
  add_offload(claim, sound, all);
  add_factors(predictor, claim, sound, all);
  add_unknowns(claim, sound, all);
  if (seen.request_s.value > 1.5 * sound.request_s.value) {
    all.add("engine", 4.0, seen.request_s.low, seen.request_s.high,
            {{"engine", claim.placement.engine.name},
             {"expected", claim.text_of(seen.request_s.value)}});
  }
  return std::move(all).ranked();
}

std::vector<Hypothesis> memory_hypotheses(const Predictor& predictor, const Claim& claim,
                                          const Prediction& sound) {
  const Placement& p = claim.placement;
  Collector all(*claim.memory_bytes);
  const MemoryTerms& memory = sound.memory;
  const double total =
      memory.weights_bytes + memory.kv_bytes + memory.activations_bytes + memory.overhead_bytes;
  for (const Anomaly* anomaly : find_anomalies(predictor.anomalies(), subject_of(p), true)) {
    const double peak = memory.weights_bytes + 2.0 * p.shape.head_weights;
    Hypothesis& h = all.add(*anomaly, 0.95 * peak, 1.05 * peak);
    h.statement = {"explain.anomaly_peak", {{"gb", gb(peak, 2)}}, {{"cause", h.statement}}};
  }
  if (!is_quantized(p.precision)) {
    all.add("fp32", 0.6, total + memory.weights_bytes, 1.1 * total + memory.weights_bytes,
            {{"gb", gb(memory.weights_bytes, 2)}}, "memory-fp32");
  } else {
    const double bf16 = 2.0 * p.shape.parameters;
    all.add("not-quantized", 0.6, bf16, 1.1 * bf16, {{"gb", gb(bf16, 2)}});
  }
  all.add("driver", 0.7, total + 0.3e9, total + 1.2e9);
  const double card = p.device.memory_bytes() * static_cast<double>(p.devices);
  all.add("reserved", 0.8, 0.8 * card, card, {{"gb", gb(card, 0)}});
  const double per_token = kv_bytes_per_token(p.shape, p.kv_bits);
  if (*claim.memory_bytes > total) {
    all.add("longer-context", 0.5, 1.1 * total,
            total + per_token * static_cast<double>(p.shape.config.max_position_embeddings),
            {{"tokens", fixed((*claim.memory_bytes - total) / per_token, 0)},
             {"kb", fixed(per_token / 1e3, 0)}});
    const double logits = 6.0 * static_cast<double>(p.shape.config.vocab_size) * p.prompt_tokens;
    if (logits > 0.05 * total) {
      all.add("prompt-logits", 0.7, total + 0.6 * logits, total + 1.3 * logits,
              {{"gb", gb(logits, 2)}});
    }
  } else {
    all.add("fewer-bits", 0.7, 0.25 * total, 0.7 * total, {}, "memory-fewer-bits");
    all.add("offload", 0.5, 0.02 * total, 0.95 * total, {}, "memory-offload");
  }
  return std::move(all).ranked();
}

}  // namespace quench
