#include "measure/analyze/step_model.h"

#include <algorithm>
#include <cmath>

namespace quench {
namespace {

// Host and device work side by side; where both are busy for about as long, neither hides the
// other fully: (a^8 + b^8)^(1/8) is 9 % over the larger of two equal times. With 4 to 12 in its
// place the error over the published rows changes by less than half a percent.
double overlap(double a, double b) {
  const double larger = std::max(a, b);
  if (larger <= 0.0) return 0.0;
  const double ratio = std::min(a, b) / larger;
  const double r2 = ratio * ratio;
  const double r8 = r2 * r2 * r2 * r2;
  return larger * std::sqrt(std::sqrt(std::sqrt(1.0 + r8)));
}

// The head and attention are read by kernels that hardly depend on how weights are stored.
constexpr double kPlainEfficiency = 0.8;

bool splits_tensors(const Placement& setup) { return setup.engine.kind == "graph"; }

double peak_flop_s(const Placement& setup) {
  const double peak =
      setup.device.find(setup.precision.peak).value_or(setup.device.at("bf16_tflops"));
  return peak * setup.precision.peak_factor * 1e12;
}

// Experts of a layer that `tokens` tokens touch, as a share of all, under uniform routing.
double touched_share(const ModelShape& shape, double tokens) {
  if (!shape.is_moe()) return 1.0;
  const double chosen = static_cast<double>(shape.config.moe.num_experts_per_tok) /
                        static_cast<double>(shape.config.moe.num_experts);
  return 1.0 - std::pow(1.0 - chosen, tokens);
}

double layer_bytes(const Placement& setup, double tokens) {
  const ModelShape& shape = setup.shape;
  const double weights =
      shape.layer_weights - shape.expert_weights * (1.0 - touched_share(shape, tokens));
  return weights * setup.precision.weight_bits / 8.0;
}

double expert_loop_s(const Placement& setup, const StepConstants& c) {
  return c[kExpert] * static_cast<double>(setup.shape.config.moe.num_experts) *
         setup.shape.layers();
}

// Two products of head_dim for every pair of query head and key.
double attention_flop(const ModelShape& shape, double queries, double keys) {
  return 4.0 * shape.layers() *
         static_cast<double>(shape.config.num_attention_heads * shape.config.head_dim) * queries *
         keys;
}

// Parts that are split over devices when tensors are; and the exchange that this costs, twice a
// layer: the floor of a message, and a ring's bytes (Thakur, Rabenseifner, Gropp, "Optimization of
// collective communication operations in MPICH", 2005).
double shards(const Placement& setup) {
  return splits_tensors(setup) ? static_cast<double>(setup.devices) : 1.0;
}

double all_reduce_s(const Placement& setup, const StepConstants& c, double tokens) {
  if (!splits_tensors(setup) || setup.devices < 2) return 0.0;
  const double n = static_cast<double>(setup.devices);
  const double bytes = tokens * static_cast<double>(setup.shape.config.hidden_size) * 2.0;
  const double link =
      setup.device.find("link_gb_s").value_or(setup.device.find("pcie_gb_s").value_or(16.0)) * 1e9;
  return 2.0 * setup.shape.layers() * (c[kCollective] + 2.0 * (n - 1.0) / n * bytes / link);
}

void finish(const Placement& setup, const StepConstants& c, StepTerms& terms) {
  terms.expert_s = expert_loop_s(setup, c);
  terms.host_s = c[kHostPerLayer] * setup.shape.layers() + terms.expert_s;
  terms.compute_s = terms.flop / (c[kPrefillShare] * peak_flop_s(setup));
  terms.gap_s = c[kGapPerLayer] * setup.shape.layers();
  terms.step_s = c[kStep];
  terms.total_s = overlap(terms.host_s, terms.device_s()) + terms.head_s + terms.step_s;
}

// Weights that are read once for `tokens` tokens.
void add_weights(const Placement& setup, const StepConstants& c, double tokens, StepTerms& terms) {
  const double bandwidth = setup.device.read_bytes_per_s();
  const double layers = layer_bytes(setup, tokens) / shards(setup);
  const double head = setup.shape.head_weights * setup.precision.head_bits / 8.0 / shards(setup);
  terms.weights_bytes = layers + head;
  terms.weights_s = layers / (c[kEfficiency] * bandwidth);
  terms.head_s = head / (kPlainEfficiency * bandwidth);
}

}  // namespace

double StepTerms::device_s() const {
  return std::max(weights_s, compute_s) + kv_s + gap_s + collective_s;
}

const char* StepTerms::bound() const {
  const std::pair<double, const char*> parts[] = {{host_s > device_s() ? host_s : 0.0, "host"},
                                                  {weights_s + head_s, "weights"},
                                                  {kv_s, "kv"},
                                                  {compute_s, "compute"},
                                                  {collective_s, "collectives"},
                                                  {gap_s, "launch"},
                                                  {step_s, "step"}};
  return std::max_element(std::begin(parts), std::end(parts),
                          [](const auto& a, const auto& b) { return a.first < b.first; })
      ->second;
}

double stored_weights_bytes(const ModelShape& shape, const Precision& precision) {
  const bool has_head = !shape.config.tie_word_embeddings || precision.separate_head;
  const double vectors = shape.parameters - shape.layer_weights -
                         shape.head_weights * (shape.config.tie_word_embeddings ? 1.0 : 2.0);
  return shape.layer_weights * precision.weight_bits / 8.0 +
         shape.head_weights * (has_head ? 2.0 : 1.0) * precision.head_bits / 8.0 +
         std::max(vectors, 0.0) * 2.0;
}

double kv_bytes_per_token(const ModelShape& shape, double kv_bits) {
  return shape.kv_values_per_token() * kv_bits / 8.0;
}

StepTerms decode_step(const Placement& setup, const StepConstants& c, double context) {
  const ModelShape& shape = setup.shape;
  StepTerms terms;
  add_weights(setup, c, setup.batch, terms);
  terms.kv_bytes = kv_bytes_per_token(shape, setup.kv_bits) * context * setup.batch / shards(setup);
  // An interpreter's engine copies the cache to append to it and repeats it for every query head.
  const double copies =
      setup.engine.kind == "eager" ? c[kKvFactor] * (1.0 + shape.head_repeat()) : c[kKvFactor];
  terms.kv_s = copies * terms.kv_bytes / (kPlainEfficiency * setup.device.read_bytes_per_s());
  terms.flop = (2.0 * (shape.active_weights + shape.head_weights) * setup.batch +
                attention_flop(shape, setup.batch, context)) /
               shards(setup);
  terms.collective_s = all_reduce_s(setup, c, setup.batch);
  finish(setup, c, terms);
  return terms;
}

StepTerms prefill(const Placement& setup, const StepConstants& c) {
  if (setup.prompt_tokens <= 1.0) return decode_step(setup, c, setup.prompt_tokens);
  const ModelShape& shape = setup.shape;
  const double tokens = setup.prompt_tokens * setup.batch;
  StepTerms terms;
  add_weights(setup, c, tokens, terms);
  terms.flop = (2.0 * (shape.active_weights * tokens + shape.head_weights * setup.batch) +
                attention_flop(shape, tokens, setup.prompt_tokens / 2.0)) /
               shards(setup);
  terms.collective_s = all_reduce_s(setup, c, tokens);
  finish(setup, c, terms);
  return terms;
}

double request_s(const Placement& setup, const StepConstants& c) {
  const double steps = std::max(setup.output_tokens - 1.0, 0.0);
  // A step's time is nearly linear in its context, so the mean context gives the mean time.
  const double context = setup.prompt_tokens + setup.output_tokens / 2.0;
  return prefill(setup, c).total_s + steps * decode_step(setup, c, context).total_s;
}

}  // namespace quench
