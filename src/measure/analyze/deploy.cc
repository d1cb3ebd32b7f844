#include "measure/analyze/deploy.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/paths.h"
#include "measure/slice.h"
#include "plan/roofline.h"

namespace quench {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
// Contexts of drivers and libraries: published memory figures count tensors only, and processes
// show 0.5 to 1 GB more.
constexpr double kDriverBytes = 0.75 * kGib;
// As the session leaves a quarter of the machine to the rest of the world.
constexpr double kHostShare = 0.75;
constexpr int64_t kMaxBatch = 4096;

struct Shares {
  double decode = 1.0, decode_log_sd = 0.0;
  double prefill = 1.0, prefill_log_sd = 0.0;
  double step_s_per_layer = 0.0;
};

Result<Shares> load_shares() {
  QUENCH_TRY(const std::string path, data_path("hardware/engines.json"));
  QUENCH_TRY(const Json json, read_json_file(path));
  try {
    const Json& here = json.at("this_machine");
    return Shares{here.at("decode_share").at(0), here.at("decode_share").at(1),
                  here.at("prefill_share").at(0), here.at("prefill_share").at(1),
                  here.at("step_s_per_layer")};
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorCode::kInvalidFile, "{}: {}.", path, e.what());
  }
}

Interval around(double value, double log_sd) {
  return {value, value * std::exp(-1.645 * log_sd), value * std::exp(1.645 * log_sd)};
}

// One pass of the plan as terms of a step: a time at the share, and what bounds it.
StepTerms terms_of(const PassLimit& limit, double share, double layers_s) {
  StepTerms terms;
  terms.weights_bytes = static_cast<double>(limit.read_bytes);
  terms.flop = limit.f32_flop + limit.bf16_flop + limit.int8_op;
  terms.weights_s = limit.memory_s / share;
  terms.compute_s = limit.compute_s / share;
  terms.gap_s = layers_s;
  terms.total_s = terms.device_s();
  return terms;
}

// The largest value in [0, most] for which `fits` holds; it holds for all smaller ones.
template <class Fits>
int64_t largest(int64_t most, const Fits& fits) {
  int64_t low = 0, high = most + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

double per_device(const Prediction& prediction, int64_t devices) {
  return prediction.memory.total_bytes() / static_cast<double>(devices);
}

Result<Fit> fit_memory(const Placement& setup, const Prediction& prediction,
                       const PredictFn& predict) {
  Fit fit;
  fit.usable_bytes = usable_bytes(setup.device);
  fit.needed_bytes = per_device(prediction, setup.devices);
  fit.fits = fit.needed_bytes <= fit.usable_bytes;
  auto fits = [&](double tokens, int64_t batch) {
    Placement other = setup;
    const double share = setup.prompt_tokens / (setup.prompt_tokens + setup.output_tokens);
    other.prompt_tokens = std::max(1.0, std::floor(tokens * share));
    other.output_tokens = std::max(1.0, tokens - other.prompt_tokens);
    other.batch = static_cast<double>(batch);
    const auto answer = predict(other);
    return answer && per_device(*answer, setup.devices) <= fit.usable_bytes;
  };
  const auto batch = static_cast<int64_t>(setup.batch);
  const int64_t longest = setup.shape.config.max_position_embeddings;
  fit.max_context_tokens =
      largest(longest, [&](int64_t tokens) { return fits(static_cast<double>(tokens), batch); });
  const double tokens = setup.prompt_tokens + setup.output_tokens;
  fit.max_batch = largest(kMaxBatch, [&](int64_t b) { return b == 0 || fits(tokens, b); });
  return fit;
}

// Engines that split every layer over the devices give each whole heads.
bool splits_tensors(const Placement& setup) { return setup.engine.kind == "graph"; }

std::vector<Sentence> remarks_on(const Placement& setup) {
  std::vector<Sentence> remarks;
  const ModelConfig& config = setup.shape.config;
  const double tokens = setup.prompt_tokens + setup.output_tokens;
  if (tokens > static_cast<double>(config.max_position_embeddings)) {
    remarks.push_back({"plan.remark.context",
                       {{"tokens", fmt::format("{:.0f}", tokens)},
                        {"most", std::to_string(config.max_position_embeddings)}}});
  }
  if (splits_tensors(setup) && config.num_attention_heads % setup.devices != 0) {
    remarks.push_back({"plan.remark.heads",
                       {{"heads", std::to_string(config.num_attention_heads)},
                        {"devices", std::to_string(setup.devices)},
                        {"engine", setup.engine.name}}});
  }
  if (setup.precision.peak == "fp8_tflops" && !setup.device.find("fp8_tflops") &&
      setup.device.kind == "gpu") {
    remarks.push_back({"plan.remark.fp8", {{"device", setup.device.name}}});
  }
  return remarks;
}

}  // namespace

double usable_bytes(const Hardware& device) {
  return device.kind == "gpu" || device.kind == "npu"
             ? std::max(device.memory_bytes() - kDriverBytes, 0.0)
             : device.memory_bytes() * kHostShare;
}

PredictFn predict_elsewhere(const Predictor& predictor, const Placement& setup,
                            const std::string& engine_text) {
  return [calibration = predictor.calibrate(setup, engine_text)](
             const Placement& wanted) -> Result<Prediction> {
    return Predictor::predict(wanted, calibration);
  };
}

Result<PredictFn> predict_here(const SessionOptions& options, const Ceilings& ceilings,
                               const Placement& longest) {
  QUENCH_TRY(const Shares shares, load_shares());
  QUENCH_TRY(const auto whole, plan_model(options, Weights::kOptional));
  const auto longest_tokens = static_cast<int64_t>(longest.prompt_tokens + longest.output_tokens);
  const auto slice =
      SliceTimes::measure(options, whole->plan, static_cast<int64_t>(longest.prompt_tokens),
                          longest_tokens, static_cast<int64_t>(longest.batch));
  Sentence basis = {"plan.basis.slice"};
  if (!slice) {
    basis = {"plan.basis.roofline",
             {{"decode", fmt::format("{:.0f}", 100.0 * shares.decode)},
              {"prefill", fmt::format("{:.0f}", 100.0 * shares.prefill)},
              {"why", slice.error().message}}};
  }
  const Ceilings usual = ceilings.usual();
  return PredictFn([=](const Placement& setup) -> Result<Prediction> {
    SessionOptions with_sizes = options;
    const auto tokens = static_cast<int64_t>(setup.prompt_tokens + setup.output_tokens);
    with_sizes.goal.max_seq_len = tokens;
    with_sizes.goal.max_batch_size = static_cast<int64_t>(setup.batch);
    with_sizes.goal.kv_tokens = tokens * with_sizes.goal.max_batch_size;
    QUENCH_TRY(const auto model, plan_model(with_sizes, Weights::kOptional));
    const Plan& plan = model->plan;
    const auto batch = static_cast<int64_t>(setup.batch);
    auto terms = [&](const Pass& pass, double share) {
      const PassLimit limit = pass_limit(plan, slice ? ceilings : usual, pass);
      if (slice) return terms_of(limit, limit.limit_s() / slice->pass_s(pass), 0.0);
      return terms_of(limit, share, shares.step_s_per_layer * setup.shape.layers());
    };
    Prediction result;
    const int64_t middle = static_cast<int64_t>(setup.prompt_tokens + setup.output_tokens / 2.0);
    result.step = terms({1, middle, batch, batch}, shares.decode);
    // A prompt goes through in steps of at most max_tokens.
    const auto prompt = static_cast<int64_t>(setup.prompt_tokens);
    const int64_t chunk = std::max<int64_t>(1, plan.limits.max_tokens / batch);
    for (int64_t done = 0; done < prompt; done += chunk) {
      const int64_t now = std::min(chunk, prompt - done);
      const StepTerms part =
          terms({now, done, batch, done + now < prompt ? 0 : batch}, shares.prefill);
      result.prefill.weights_bytes += part.weights_bytes;
      result.prefill.flop += part.flop;
      result.prefill.weights_s += part.weights_s;
      result.prefill.compute_s += part.compute_s;
      result.prefill.gap_s += part.gap_s;
      result.prefill.total_s += part.total_s;
    }
    result.tpot_s = around(result.step.total_s, shares.decode_log_sd);
    result.ttft_s = around(result.prefill.total_s, shares.prefill_log_sd);
    const double steps = std::max(setup.output_tokens - 1.0, 0.0);
    result.request_s = {result.ttft_s.value + steps * result.tpot_s.value,
                        result.ttft_s.low + steps * result.tpot_s.low,
                        result.ttft_s.high + steps * result.tpot_s.high};
    const double all = setup.output_tokens * setup.batch;
    result.decode_tok_s = {all / result.request_s.value, all / result.request_s.high,
                           all / result.request_s.low};
    result.memory.weights_bytes = static_cast<double>(plan.weights_bytes + plan.vectors_bytes);
    result.memory.kv_bytes = static_cast<double>(plan.kv_bytes);
    result.memory.activations_bytes = static_cast<double>(plan.workspace_bytes);
    const double total = result.memory.total_bytes();
    result.memory_bytes = {total, total, total};
    result.calibration.basis = basis;
    return result;
  });
}

Result<Deployment> deploy(const Placement& setup, const std::string& engine_text,
                          const PredictFn& predict) {
  Deployment result;
  result.setup = setup;
  result.engine_text = engine_text;
  result.remarks = remarks_on(setup);
  QUENCH_TRY(result.prediction, predict(setup));
  QUENCH_TRY(result.fit, fit_memory(setup, result.prediction, predict));
  if (result.fit.fits || setup.device.kind == "cpu") return result;
  for (int64_t n = setup.devices + 1; n <= 64; ++n) {
    if (splits_tensors(setup) && setup.shape.config.num_attention_heads % n != 0) continue;
    Placement split = setup;
    split.devices = n;
    QUENCH_TRY(Prediction prediction, predict(split));
    if (per_device(prediction, n) > result.fit.usable_bytes) continue;
    result.split_devices = n;
    result.split_how = {splits_tensors(setup) ? "plan.split.tensors" : "plan.split.layers"};
    result.split_prediction = std::move(prediction);
    break;
  }
  return result;
}

Result<std::vector<ConcurrencyRow>> against_concurrency(const Deployment& deployment,
                                                        const PredictFn& predict) {
  std::vector<ConcurrencyRow> rows;
  for (int64_t batch = 1; batch <= 64; batch *= 2) {
    Placement setup = deployment.setup;
    setup.batch = static_cast<double>(batch);
    setup.devices = deployment.devices();
    QUENCH_TRY(const Prediction prediction, predict(setup));
    const bool fits = per_device(prediction, setup.devices) <= usable_bytes(setup.device);
    rows.push_back({batch, fits, prediction.tpot_s, prediction.decode_tok_s});
    if (!fits) break;
  }
  return rows;
}

std::optional<Sentence> disturbance_sentence(const Ceilings& ceilings) {
  switch (ceilings.disturbance()) {
    case Disturbance::kNone:
      return std::nullopt;
    case Disturbance::kOthers:
      return Sentence{"plan.disturbed.others",
                      {{"percent", fixed(100.0 * ceilings.others_share.value_or(0.0), 0)}}};
    case Disturbance::kMemory: {
      const Rate& memory = ceilings.read.back().read_gb_s;
      return Sentence{"plan.disturbed.memory",
                      {{"best", fixed(memory.best, 0)}, {"median", fixed(memory.median, 0)}}};
    }
  }
  QUENCH_CHECK(false, "no such disturbance: {}", static_cast<int>(ceilings.disturbance()));
}

Sentence bound_sentence(const Placement& setup, const StepTerms& terms) {
  const std::string bound = terms.bound();
  auto sentence = [&](const char* key, double part_s, int decimals,
                      std::map<std::string, std::string> values) {
    values["ms"] = fixed(part_s * 1e3, decimals);
    values["total_ms"] = fixed(terms.total_s * 1e3, decimals);
    return Sentence{key, std::move(values)};
  };
  if (bound == "host") {
    return sentence("explain.bound.host", terms.host_s, 1,
                    {{"layers", fixed(setup.shape.layers(), 0)},
                     {"layer_ms", fixed(terms.host_s / setup.shape.layers() * 1e3, 2)}});
  }
  if (bound == "weights") {
    const double weights_s = terms.weights_s + terms.head_s;
    return sentence(
        "explain.bound.weights", weights_s, 1,
        {{"gb", fixed(terms.weights_bytes / 1e9, 2)},
         {"gb_s", fixed(terms.weights_bytes / weights_s / 1e9, 0)},
         {"device_gb_s", fixed(setup.device.at("memory_gb_s"), 0)},
         {"device_ms", fixed(terms.weights_bytes / setup.device.read_bytes_per_s() * 1e3, 1)}});
  }
  if (bound == "kv")
    return sentence("explain.bound.kv", terms.kv_s, 1, {{"gb", fixed(terms.kv_bytes / 1e9, 2)}});
  if (bound == "compute") {
    return sentence("explain.bound.compute", terms.compute_s, 1,
                    {{"tflop", fmt::format("{:.3g}", terms.flop / 1e12)},
                     {"tflop_s", fmt::format("{:.3g}", terms.flop / terms.compute_s / 1e12)}});
  }
  if (bound == "collectives") {
    return sentence("explain.bound.collectives", terms.collective_s, 1,
                    {{"devices", std::to_string(setup.devices)}});
  }
  if (bound == "launch") {
    return sentence("explain.bound.launch", terms.gap_s, 2,
                    {{"layers", std::to_string(setup.shape.config.num_hidden_layers)}});
  }
  return sentence("explain.bound.step", terms.step_s, 2, {});
}

}  // namespace quench
