// ModelShape: the counts of a model that decide its speed and memory on any device, from the
// family's inventory of tensors. No weights are needed. Plain values; any thread.
#pragma once

#include <string>

#include "models/config.h"

namespace quench {

struct ModelShape {
  std::string name;
  ModelConfig config;
  // Numbers of weights. The embedding is read by look-up, the head by every step.
  double layer_weights = 0.0;   // in layers, all experts
  double active_weights = 0.0;  // in layers, of one token's experts
  double expert_weights = 0.0;  // in layers, all experts, experts only
  double head_weights = 0.0;    // = those of the embedding
  double parameters = 0.0;

  double layers() const { return static_cast<double>(config.num_hidden_layers); }
  bool is_moe() const { return config.moe.num_experts > 0; }
  double kv_values_per_token() const;  // keys and values of all layers
  // Query heads per key/value head.
  double head_repeat() const;
};

// MODEL as people write it: a directory, "demo", or an official name with or without "Qwen/" and
// endings such as "-Chat", "-Instruct", "-GPTQ-Int4", "-AWQ" (which say nothing about the shape).
Result<ModelShape> find_shape(const std::string& model);

// The precision that such an ending names ("gptq-int4"); empty when it names none.
std::string precision_in_name(const std::string& model);

}  // namespace quench
