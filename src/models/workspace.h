// Workspace: the activations of one step and the batch's arrays on the device. One allocation,
// carved once for the largest step; nothing is allocated while tokens are made.
#pragma once

#include "devices/device.h"
#include "models/batch.h"
#include "models/config.h"

namespace quench {

struct WorkspaceLimits {
  int64_t max_tokens = 0;          // per step
  int64_t max_sequences = 0;       // per step
  int64_t max_pages = 0;           // per sequence
  int64_t max_logit_rows = 0;      // per step
  int64_t scratch_bytes = 0;       // the most that an op of a step needs
  int64_t transformed_floats = 0;  // of the widest input that goes through a transform
};

struct Workspace {
  // Activations, f32. T = max_tokens, C = experts per token, L = max_logit_rows.
  float* x = nullptr;          // [T, hidden] the residual stream
  float* normed = nullptr;     // [max(T, L), hidden]
  float* q = nullptr;          // [T, q_dim]
  float* k = nullptr;          // [T, kv_dim]
  float* v = nullptr;          // [T, kv_dim]
  float* attention = nullptr;  // [T, q_dim]
  float* projected = nullptr;  // [T, hidden], and [T * C, hidden] for experts
  float* gate = nullptr;       // [T, widest FFN] or [T * C, moe_intermediate]
  float* up = nullptr;         // the same
  float* cos_sin = nullptr;    // [T, head_dim]
  float* logits = nullptr;     // [L, vocab_size]
  // Mixture of experts; null in dense models.
  float* router_logits = nullptr;   // [T, num_experts]
  float* expert_weights = nullptr;  // [T, C]
  float* shared_logit = nullptr;    // [T]
  int32_t* expert_begin = nullptr;  // [num_experts + 1]
  int32_t* sorted_token = nullptr;  // [T * C]
  int32_t* sorted_row = nullptr;    // [T, C]
  // The batch.
  int32_t* tokens = nullptr;
  int32_t* positions = nullptr;
  int32_t* sequence = nullptr;
  int32_t* rope_table = nullptr;
  int32_t* page_table = nullptr;  // [S, max_pages]
  int32_t* logit_rows = nullptr;
  float* query_scale = nullptr;
  std::byte* scratch = nullptr;
  float* transformed = nullptr;
};

// Bytes of the one allocation.
int64_t workspace_bytes(const ModelConfig& config, const WorkspaceLimits& limits);
// `base` has workspace_bytes() bytes and is aligned to 64.
Workspace carve_workspace(const ModelConfig& config, const WorkspaceLimits& limits,
                          std::byte* base);

// Copies the batch's arrays to the device. The batch must be within the limits.
void upload_batch(Device& device, const Batch& batch, const Workspace& workspace);

}  // namespace quench
