#include "models/workspace.h"

#include <algorithm>

#include "base/bytes.h"

namespace quench {
namespace {

// Hands out consecutive pieces of one allocation; with a null base it only counts.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}

  template <class T>
  void take(T*& pointer, int64_t count) {
    pointer = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_bytes_);
    used_bytes_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
  }
  int64_t used_bytes() const { return used_bytes_; }

 private:
  std::byte* base_;
  int64_t used_bytes_ = 0;
};

int64_t carve(const ModelConfig& config, const WorkspaceLimits& limits, std::byte* base,
              Workspace& w) {
  const int64_t tokens = limits.max_tokens;
  const MoeConfig& moe = config.moe;
  const int64_t choices = tokens * moe.num_experts_per_tok;
  const int64_t dense_width =
      std::max(config.intermediate_size, moe.shared_expert_intermediate_size);
  const int64_t ffn = std::max(tokens * dense_width, choices * moe.moe_intermediate_size);
  Carver carver(base);
  carver.take(w.x, tokens * config.hidden_size);
  carver.take(w.normed, std::max(tokens, limits.max_logit_rows) * config.hidden_size);
  carver.take(w.q, tokens * config.q_dim());
  carver.take(w.k, tokens * config.kv_dim());
  carver.take(w.v, tokens * config.kv_dim());
  carver.take(w.attention, tokens * config.q_dim());
  carver.take(w.projected, std::max(tokens, choices) * config.hidden_size);
  carver.take(w.gate, ffn);
  carver.take(w.up, ffn);
  carver.take(w.cos_sin, tokens * config.head_dim);
  carver.take(w.logits, limits.max_logit_rows * config.vocab_size);
  if (moe.num_experts > 0) {
    carver.take(w.router_logits, tokens * moe.num_experts);
    carver.take(w.expert_weights, choices);
    carver.take(w.shared_logit, tokens);
    carver.take(w.expert_begin, moe.num_experts + 1);
    carver.take(w.sorted_token, choices);
    carver.take(w.sorted_row, choices);
  }
  carver.take(w.tokens, tokens);
  carver.take(w.positions, tokens);
  carver.take(w.sequence, tokens);
  carver.take(w.rope_table, tokens);
  carver.take(w.page_table, limits.max_sequences * limits.max_pages);
  carver.take(w.logit_rows, limits.max_logit_rows);
  if (config.use_logn_attn) carver.take(w.query_scale, tokens);
  carver.take(w.scratch, limits.scratch_bytes);
  carver.take(w.transformed, limits.transformed_floats);
  return carver.used_bytes();
}

template <class T>
void upload_vector(Device& device, T* to, const std::vector<T>& from) {
  if (from.empty()) return;
  device.upload(reinterpret_cast<std::byte*>(to), reinterpret_cast<const std::byte*>(from.data()),
                static_cast<int64_t>(from.size() * sizeof(T)));
}

}  // namespace

int64_t workspace_bytes(const ModelConfig& config, const WorkspaceLimits& limits) {
  Workspace unused;
  return carve(config, limits, nullptr, unused);
}

Workspace carve_workspace(const ModelConfig& config, const WorkspaceLimits& limits,
                          std::byte* base) {
  Workspace workspace;
  carve(config, limits, base, workspace);
  return workspace;
}

void upload_batch(Device& device, const Batch& batch, const Workspace& workspace) {
  upload_vector(device, workspace.tokens, batch.tokens);
  upload_vector(device, workspace.positions, batch.positions);
  upload_vector(device, workspace.sequence, batch.sequence);
  upload_vector(device, workspace.rope_table, batch.rope_table);
  upload_vector(device, workspace.page_table, batch.page_table);
  upload_vector(device, workspace.logit_rows, batch.logit_rows);
  upload_vector(device, workspace.query_scale, batch.query_scale);
}

}  // namespace quench
