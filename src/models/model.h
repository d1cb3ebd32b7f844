// Model: a family's weights, packed for one device, and the buffers they live in. Made by the
// engine's loader from a Plan; read-only afterwards.
#pragma once

#include <array>
#include <deque>
#include <vector>

#include "devices/device.h"
#include "models/family.h"
#include "models/rope.h"

namespace quench {

// What is left out is null: a dense layer has no experts, Qwen3 no biases. Indexed by Role.
struct Layer {
  std::array<Weight, kNumRoles> weights{};
  std::array<const float*, kNumRoles> vectors{};

  const Weight& weight(Role role) const { return weights[static_cast<size_t>(role)]; }
  const float* vector(Role role) const { return vectors[static_cast<size_t>(role)]; }
};

struct Model {
  const Family* family = nullptr;
  ModelConfig config;
  Layer globals;              // embedding, final norm, head (the embedding again when tied)
  std::vector<Layer> layers;  // [num_hidden_layers]
  RopeBank rope;              // host copy
  const float* rope_inv_freq = nullptr;    // device, [num_tables, head_dim / 2]
  const float* rope_scales = nullptr;      // device, [num_tables]
  std::deque<WeightTransform> transforms;  // that weights point to
  std::vector<Buffer> buffers;             // everything above that is on the device

  const Layer& layer(int64_t index) const {
    return index < 0 ? globals : layers[static_cast<size_t>(index)];
  }
  Layer& layer(int64_t index) { return index < 0 ? globals : layers[static_cast<size_t>(index)]; }
};

}  // namespace quench
