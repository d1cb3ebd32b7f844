#include "models/blocks.h"

#include <cmath>

#include "devices/trace.h"

namespace quench {

void observe(const ForwardContext& c, const char* name, int64_t layer, const float* data,
             int64_t rows, int64_t cols) {
  if (c.observer == nullptr) return;
  if (c.op.worker.index == 0) (*c.observer)(name, layer, data, rows, cols);
  c.op.worker.wait();
}

void rope_table(const ForwardContext& c) {
  const Workspace& w = *c.work;
  c.ops->rope_table(c.op, {w.positions, w.rope_table, c.model->rope_inv_freq, c.model->rope_scales,
                           w.cos_sin, c.num_tokens, c.config().head_dim});
}

void embed(const ForwardContext& c) {
  const Workspace& w = *c.work;
  const Weight& embedding = c.model->globals.weight(Role::kEmbedding);
  const TraceScope scope(c.op, "embed");
  if (embedding.transform == nullptr) {
    embedding.kernel->gather(c.op, embedding, w.tokens, c.num_tokens, w.x);
  } else {  // rows of a rotated embedding are turned back
    embedding.kernel->gather(c.op, embedding, w.tokens, c.num_tokens, c.op.transformed);
    c.op.worker.wait();
    embedding.transform->apply(c.op, c.op.transformed, c.num_tokens, embedding.k, true, w.x);
  }
  rope_table(c);
  c.op.worker.wait();
  observe(c, "embed", -1, w.x, c.num_tokens, c.config().hidden_size);
}

void attention_block(const ForwardContext& c, int64_t layer_index) {
  const Workspace& w = *c.work;
  const ModelConfig& config = c.config();
  const Layer& layer = c.model->layer(layer_index);
  const KvPages pages = {c.kv.base + layer_index * c.kv.layer_bytes, c.kv.page_bytes, c.kv.type};
  const auto eps = static_cast<float>(config.rms_norm_eps);
  c.phases->attn_in(c.op, *c.ops,
                    {w.x,
                     layer.vector(Role::kInputNorm),
                     w.normed,
                     &layer.weight(Role::kQ),
                     &layer.weight(Role::kK),
                     &layer.weight(Role::kV),
                     layer.vector(Role::kQNorm),
                     layer.vector(Role::kKNorm),
                     w.q,
                     w.k,
                     w.v,
                     w.cos_sin,
                     pages,
                     c.batch(),
                     config.hidden_size,
                     config.num_attention_heads,
                     config.num_key_value_heads,
                     config.head_dim,
                     config.head_dim,
                     eps});
  observe(c, "attn_input", layer_index, w.normed, c.num_tokens, config.hidden_size);
  const float scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  c.ops->attention(c.op,
                   {w.q, c.has_query_scale ? w.query_scale : nullptr, w.attention, pages, c.batch(),
                    config.num_attention_heads, config.num_key_value_heads, config.head_dim,
                    config.windows[static_cast<size_t>(layer_index)], scale});
  c.op.worker.wait();
  observe(c, "o_input", layer_index, w.attention, c.num_tokens, config.q_dim());
  c.phases->attn_out(c.op, *c.ops,
                     {w.attention, &layer.weight(Role::kO), w.projected, w.x, c.num_tokens});
}

void ffn_block(const ForwardContext& c, int64_t layer_index) {
  const Workspace& w = *c.work;
  const ModelConfig& config = c.config();
  const Layer& layer = c.model->layer(layer_index);
  c.phases->ffn_in(c.op, *c.ops,
                   {w.x, layer.vector(Role::kPostNorm), w.normed, &layer.weight(Role::kGate),
                    &layer.weight(Role::kUp), w.gate, w.up, c.num_tokens, config.hidden_size,
                    static_cast<float>(config.rms_norm_eps)});
  observe(c, "ffn_input", layer_index, w.normed, c.num_tokens, config.hidden_size);
  observe(c, "down_input", layer_index, w.gate, c.num_tokens, layer.weight(Role::kGate).n);
  c.phases->ffn_out(c.op, *c.ops,
                    {w.gate, &layer.weight(Role::kDown), w.projected, w.x, c.num_tokens});
}

namespace {

// The chosen experts: rows sorted by expert, three grouped matmuls, weighted sum into x.
void routed_experts(const ForwardContext& c, int64_t layer_index, const Layer& layer) {
  const Workspace& w = *c.work;
  const MoeConfig& moe = c.config().moe;
  const int64_t rows = c.num_tokens * moe.num_experts_per_tok;
  run_matmul(c.op, layer.weight(Role::kRouter), w.normed, w.router_logits, c.num_tokens);
  c.op.worker.wait();
  c.ops->moe_route(c.op,
                   {w.router_logits, w.expert_begin, w.sorted_token, w.sorted_row, w.expert_weights,
                    c.num_tokens, moe.num_experts, moe.num_experts_per_tok, moe.norm_topk_prob});
  c.op.worker.wait();
  const Weight* in[] = {&layer.weight(Role::kExpertGate), &layer.weight(Role::kExpertUp)};
  float* const hidden[] = {w.gate, w.up};
  run_matmul(c.op, {w.normed, in, hidden, 2, rows, c.num_tokens, w.expert_begin, w.sorted_token});
  c.op.worker.wait();
  c.ops->silu_mul(c.op, {w.gate, w.up, w.gate, rows * moe.moe_intermediate_size});
  c.op.worker.wait();
  observe(c, "expert_down_input", layer_index, w.gate, rows, moe.moe_intermediate_size);
  const Weight* down[] = {&layer.weight(Role::kExpertDown)};
  float* const projected[] = {w.projected};
  run_matmul(c.op, {w.gate, down, projected, 1, rows, rows, w.expert_begin, nullptr});
  c.op.worker.wait();
  c.ops->moe_combine(c.op, {w.x, w.projected, w.sorted_row, w.expert_weights, c.num_tokens,
                            moe.num_experts_per_tok, c.config().hidden_size});
  c.op.worker.wait();
}

// x += sigmoid(shared_router . h) * ffn(h), h the same normed input as the experts'.
void shared_expert(const ForwardContext& c, int64_t layer_index, const Layer& layer) {
  const Workspace& w = *c.work;
  run_matmuls(c.op,
              {&layer.weight(Role::kSharedGate), &layer.weight(Role::kSharedUp),
               &layer.weight(Role::kSharedRouter)},
              w.normed, {w.gate, w.up, w.shared_logit}, c.num_tokens);
  c.op.worker.wait();
  c.ops->silu_mul(c.op, {w.gate, w.up, w.gate, c.num_tokens * layer.weight(Role::kSharedGate).n});
  c.op.worker.wait();
  observe(c, "shared_down_input", layer_index, w.gate, c.num_tokens,
          layer.weight(Role::kSharedGate).n);
  run_matmul(c.op, layer.weight(Role::kSharedDown), w.gate, w.projected, c.num_tokens);
  c.op.worker.wait();
  c.ops->add(c.op, {w.x, w.projected, w.shared_logit, c.num_tokens, c.config().hidden_size});
  c.op.worker.wait();
}

}  // namespace

void moe_block(const ForwardContext& c, int64_t layer_index) {
  const Workspace& w = *c.work;
  const ModelConfig& config = c.config();
  const Layer& layer = c.model->layer(layer_index);
  c.ops->rms_norm(c.op, {w.x, layer.vector(Role::kPostNorm), w.normed, c.num_tokens,
                         config.hidden_size, static_cast<float>(config.rms_norm_eps)});
  c.op.worker.wait();
  observe(c, "ffn_input", layer_index, w.normed, c.num_tokens, config.hidden_size);
  routed_experts(c, layer_index, layer);
  if (config.moe.shared_expert_intermediate_size > 0) shared_expert(c, layer_index, layer);
}

void head(const ForwardContext& c) {
  const Workspace& w = *c.work;
  const Layer& globals = c.model->globals;
  c.phases->head(c.op, *c.ops,
                 {w.x, w.logit_rows, globals.vector(Role::kFinalNorm), w.normed,
                  &globals.weight(Role::kHead), w.logits, c.num_logit_rows, c.config().hidden_size,
                  static_cast<float>(c.config().rms_norm_eps)});
}

void decoder_layer(const ForwardContext& c, int64_t layer) {
  const TraceScope scope(c.op, "layer", layer);
  attention_block(c, layer);
  if (c.config().is_sparse(layer)) {
    moe_block(c, layer);
  } else {
    ffn_block(c, layer);
  }
  observe(c, "layer_output", layer, c.work->x, c.num_tokens, c.config().hidden_size);
}

void decoder_forward(const ForwardContext& c) {
  embed(c);
  for (int64_t layer = 0; layer < c.config().num_hidden_layers; ++layer) decoder_layer(c, layer);
  head(c);
}

}  // namespace quench
