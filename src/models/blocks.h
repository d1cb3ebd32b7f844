// The blocks that families are made of. They look at config fields only, never at the family's
// name.
#pragma once

#include <functional>

#include "devices/phases.h"
#include "models/model.h"
#include "models/workspace.h"

namespace quench {

// The pages of every layer: layer l's pages start at base + l * layer_bytes.
struct KvCache {
  std::byte* base = nullptr;
  int64_t layer_bytes = 0;
  int64_t page_bytes = 0;  // of one page of one layer
  KvType type = KvType::kF32;
};

// The one hook of a forward pass: calibration, golden layer tests, traces and dumps. Called by one
// worker while the others wait, with a device pointer to [rows, cols] f32. layer is -1 outside the
// layers.
using Observer = std::function<void(const char* name, int64_t layer, const float* data,
                                    int64_t rows, int64_t cols)>;

struct ForwardContext {
  OpContext op;
  const Ops* ops;
  const Phases* phases;
  const Model* model;
  const Workspace* work;
  KvCache kv;
  // The sizes of this step; the arrays are in the workspace.
  int64_t num_tokens;
  int64_t num_sequences;
  int64_t max_pages;
  int64_t num_logit_rows;
  bool has_query_scale;
  const Observer* observer;  // or null

  const ModelConfig& config() const { return model->config; }
  BatchView batch() const {
    return {num_tokens,     num_sequences,    work->positions,
            work->sequence, work->page_table, max_pages};
  }
};

void observe(const ForwardContext& c, const char* name, int64_t layer, const float* data,
             int64_t rows, int64_t cols);

// The step's rotary table.
void rope_table(const ForwardContext& c);
// tokens -> x, and the step's rotary table.
void embed(const ForwardContext& c);
// x += attention(norm(x)).
void attention_block(const ForwardContext& c, int64_t layer);
// x += down(silu(gate(norm(x))) * up(norm(x))).
void ffn_block(const ForwardContext& c, int64_t layer);
// x += sum of the chosen experts, plus the shared expert where the config has one.
void moe_block(const ForwardContext& c, int64_t layer);
// One layer: attention, then FFN or experts.
void decoder_layer(const ForwardContext& c, int64_t layer);
// x -> logits of the wanted rows.
void head(const ForwardContext& c);

// Entries of an inventory that all Transformers-native families share.
void visit_attention(const ModelConfig& config, int64_t layer, const TensorVisitor& visit);
void visit_ffn(const ModelConfig& config, int64_t layer, const TensorVisitor& visit);
void visit_moe(const ModelConfig& config, int64_t layer, const TensorVisitor& visit);
void visit_globals(const ModelConfig& config, const TensorVisitor& visit);
// globals, then per layer attention and FFN or experts.
void visit_decoder(const ModelConfig& config, const TensorVisitor& visit);
// embed, layers, head.
void decoder_forward(const ForwardContext& c);

}  // namespace quench
