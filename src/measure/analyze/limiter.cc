#include "measure/analyze/limiter.h"

#include <algorithm>

namespace quench {
namespace {

// More of the weights than this in a generic kernel, and it is what the run is about.
constexpr double kGenericShare = 0.25;
// Others who take so much of a team's processors are its limit.
constexpr double kNeighbourLoss = 0.25;
constexpr double kFaultsPerSecond = 20.0;

struct Part {
  const char* id;
  double time_s;
};

std::vector<Part> parts_of(const MeasuredPass& pass) {
  const PassTime& time = pass.time;
  const bool reads = pass.limit.memory_s > pass.limit.compute_s;
  return {{reads ? "weights" : "compute", time.weights_s},
          {pass.is_prefill ? "attention" : "kv", time.attention_s},
          {"layers", time.layers_s},
          {"waiting", time.waiting_s},
          {"host", time.host_s},
          {"sampler", time.sampler_s * static_cast<double>(pass.batch)}};
}

double whole_s(const MeasuredPass& pass) {
  return pass.time.total_s() + pass.time.sampler_s * static_cast<double>(pass.batch);
}

// What share of its processors' time others take from a team that would use them all.
double lost_to_others(const MeasuredPass& pass) {
  const double wanted = pass.threads + pass.others_cpus.value_or(0.0);
  return std::max(0.0, 1.0 - pass.cpus / std::max(wanted, 1e-9));
}

Sentence sentence_of(const MeasuredPass& pass, const Part& part, double share) {
  const std::string id = part.id;
  const double pass_s = pass.time.total_s();
  const std::string ms = fixed(1e3 * part.time_s, 2);
  const std::string percent = fixed(100.0 * share, 0);
  const std::string model_percent = fixed(100.0 * pass.time.model_s() / pass_s, 0);
  if (id == "weights") {
    const double gb_s = static_cast<double>(pass.limit.read_bytes) / pass_s / 1e9;
    return {"explain.limiter.weights",
            {{"mb", fixed(static_cast<double>(pass.limit.read_bytes) / 1e6, 1)},
             {"ms", fixed(1e3 * pass_s, 2)},
             {"gb_s", fixed(gb_s, 1)},
             {"percent", fixed(100.0 * gb_s / pass.read_gb_s, 0)},
             {"ceiling", fixed(pass.read_gb_s, 1)},
             {"level", pass.read_level},
             {"model_percent", model_percent}}};
  }
  if (id == "compute") {
    const double operations = pass.limit.f32_flop + pass.limit.bf16_flop + pass.limit.int8_op;
    return {"explain.limiter.compute",
            {{"operations", fixed(operations / 1e9, 2)},
             {"ms", fixed(1e3 * pass_s, 2)},
             {"rate", fixed(operations / pass_s / 1e9, 0)},
             {"percent", fixed(100.0 * pass.limit.compute_s / pass_s, 0)},
             {"model_percent", model_percent}}};
  }
  if (id == "kv" || id == "attention") {
    return {"explain.limiter.attention",
            {{"tokens", std::to_string(pass.context)}, {"ms", ms}, {"percent", percent}}};
  }
  if (id == "layers") {
    const int64_t layers = std::max<int64_t>(pass.layers, 1);
    return {"explain.limiter.layers",
            {{"ms", ms},
             {"us", fixed(1e6 * part.time_s / static_cast<double>(layers), 1)},
             {"layers", std::to_string(pass.layers)},
             {"percent", percent}}};
  }
  if (id == "waiting") {
    Sentence why = {"explain.waiting.pieces"};
    if (pass.others_cpus.value_or(0.0) > 0.1) {
      why = {"explain.waiting.others",
             {{"others", fixed(*pass.others_cpus, 1)}, {"cpus", std::to_string(pass.cpus)}}};
    }
    return {"explain.limiter.waiting",
            {{"threads", std::to_string(pass.threads)}, {"ms", ms}, {"percent", percent}},
            {{"why", why}}};
  }
  return {"explain.limiter." + id, {{"ms", ms}, {"percent", percent}}};
}

// Causes that are not a part of the pass but lie over all of it.
std::optional<Limiter> overall(const MeasuredPass& pass) {
  const double run_s = std::max(whole_s(pass), 1e-9);
  Limiter limiter;
  if (pass.available_bytes && pass.planned_bytes > *pass.available_bytes) {
    auto gb = [](int64_t bytes) { return fixed(static_cast<double>(bytes) / 1e9, 1); };
    limiter = {"overflow",
               {"explain.limiter.overflow",
                {{"planned", gb(pass.planned_bytes)}, {"free", gb(*pass.available_bytes)}}},
               1.0};
  } else if (static_cast<double>(pass.major_faults) > kFaultsPerSecond * run_s) {
    limiter = {"overflow",
               {"explain.limiter.faults", {{"pages", std::to_string(pass.major_faults)}}},
               1.0};
  } else if (pass.generic_share > kGenericShare) {
    const double limit_share = pass.limit.limit_s() / std::max(pass.time.total_s(), 1e-12);
    limiter = {"generic_kernel",
               {"explain.limiter.generic",
                {{"weights_percent", fixed(100.0 * pass.generic_share, 0)},
                 {"kernel", pass.generic_kernel},
                 {"percent", fixed(100.0 * limit_share, 1)}}},
               pass.time.weights_s / run_s};
  } else if (lost_to_others(pass) > kNeighbourLoss) {
    limiter = {"neighbour",
               {"explain.limiter.neighbour",
                {{"others", fixed(*pass.others_cpus, 1)},
                 {"cpus", std::to_string(pass.cpus)},
                 {"threads", std::to_string(pass.threads)},
                 {"percent", fixed(100.0 * lost_to_others(pass), 0)}}},
               lost_to_others(pass)};
  } else {
    return std::nullopt;
  }
  return limiter;
}

}  // namespace

PassTime pass_time(const Trace& trace) {
  PassTime time;
  const std::span<const TraceSpan> spans = trace.spans(0);
  std::vector<int64_t> inner_ns(spans.size(), 0);
  std::vector<size_t> open;  // by depth
  for (size_t i = 0; i < spans.size(); ++i) {
    const auto depth = static_cast<size_t>(spans[i].depth);
    open.resize(std::min(open.size(), depth));
    if (!open.empty()) inner_ns[open.back()] += spans[i].end_ns - spans[i].begin_ns;
    open.push_back(i);
  }
  for (size_t i = 0; i < spans.size(); ++i) {
    const double own_s =
        1e-9 * static_cast<double>(spans[i].end_ns - spans[i].begin_ns - inner_ns[i]);
    const std::string_view name = spans[i].name;
    double* part = &time.layers_s;
    if (inner_ns[i] > 0) {
      part = &time.waiting_s;
    } else if (name == "attention") {
      part = &time.attention_s;
    } else if (spans[i].cost.reads_model) {
      part = &time.weights_s;
    }
    *part += std::max(own_s, 0.0);
  }
  return time;
}

PassTime scaled_to(const PassTime& time, double total_s) {
  const double factor = total_s / std::max(time.total_s(), 1e-12);
  PassTime scaled = time;
  for (double* part : {&scaled.weights_s, &scaled.attention_s, &scaled.layers_s, &scaled.waiting_s,
                       &scaled.host_s})
    *part *= factor;
  return scaled;
}

Limiter find_limiter(const MeasuredPass& pass) {
  const double total_s = std::max(whole_s(pass), 1e-12);
  Limiter limiter;
  if (auto found = overall(pass)) {
    limiter = *found;
  } else {
    const std::vector<Part> parts = parts_of(pass);
    const Part& largest =
        *std::max_element(parts.begin(), parts.end(),
                          [](const Part& a, const Part& b) { return a.time_s < b.time_s; });
    limiter.id = largest.id;
    limiter.share_of_time = largest.time_s / total_s;
    limiter.sentence = sentence_of(pass, largest, limiter.share_of_time);
  }
  limiter.share_of_limit = pass.limit.limit_s() / std::max(pass.time.total_s(), 1e-12);
  return limiter;
}

std::string time_text(const MeasuredPass& pass, const Strings& strings) {
  std::vector<std::string> shares;
  for (const Part& part : parts_of(pass)) {
    const double percent = 100.0 * part.time_s / std::max(whole_s(pass), 1e-12);
    if (percent < 0.5) continue;
    shares.push_back(
        strings(std::string("explain.part.") + part.id, {{"percent", fixed(percent, 0)}}));
  }
  return strings.join(shares);
}

Json measured_pass_json(const MeasuredPass& pass, const Limiter& limiter) {
  auto or_null = [](const auto& value) { return value ? Json(*value) : Json(); };
  return {{"test", pass.is_prefill ? "prefill" : "decode"},
          {"tokens", pass.tokens},
          {"batch", pass.batch},
          {"context", pass.context},
          {"pass_s", pass.time.total_s()},
          {"tok_s", static_cast<double>(pass.tokens) / pass.time.total_s()},
          {"limit_s", pass.limit.limit_s()},
          {"limit_share", limiter.share_of_limit},
          {"memory_limit_s", pass.limit.memory_s},
          {"compute_limit_s", pass.limit.compute_s},
          {"read_bytes", pass.limit.read_bytes},
          {"weights_s", pass.time.weights_s},
          {"attention_s", pass.time.attention_s},
          {"layers_s", pass.time.layers_s},
          {"waiting_s", pass.time.waiting_s},
          {"host_s", pass.time.host_s},
          {"sampler_s", pass.is_prefill ? Json() : Json(pass.time.sampler_s)},
          {"others_cpus", or_null(pass.others_cpus)},
          {"limiter", limiter.id},
          {"share_of_time", limiter.share_of_time},
          {"sentence", Strings::of("en")(limiter.sentence)}};
}

}  // namespace quench
