// Layer phases: the forward pass in six steps per layer. The default of each is the composition of
// primitive ops; a device may override a phase with a fused version that gives the same bits as its
// own ops.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "devices/matmul.h"
#include "devices/ops.h"

namespace quench {

// norm -> q, k, v (-> per-head q and k norm) -> rope -> KV store. Leaves q [T, H, D] rotated.
struct AttnInArgs {
  const float* x;            // [T, hidden] residual stream
  const float* norm_weight;  // [hidden]
  float* normed;             // [T, hidden] scratch
  const Weight* q;
  const Weight* k;
  const Weight* v;
  const float* q_norm;   // [D] or null
  const float* k_norm;   // [D] or null
  float* q_out;          // [T, H * D]
  float* k_out;          // [T, G * D]
  float* v_out;          // [T, G * D]
  const float* cos_sin;  // [T, rotary_dim]
  KvPages pages;
  BatchView batch;
  int64_t hidden;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t rotary_dim;
  float eps;
};

// x += attention_out W_o^T.
struct AttnOutArgs {
  const float* attention_out;  // [T, H * D]
  const Weight* o;
  float* projected;  // [T, hidden] scratch
  float* x;          // [T, hidden]
  int64_t num_tokens;
};

// norm -> gate, up -> silu(gate) * up into `gate_out`.
struct FfnInArgs {
  const float* x;
  const float* norm_weight;
  float* normed;
  const Weight* gate;
  const Weight* up;
  float* gate_out;  // [T, intermediate]
  float* up_out;    // [T, intermediate]
  int64_t num_tokens;
  int64_t hidden;
  float eps;
};

// x += activated W_down^T.
struct FfnOutArgs {
  const float* activated;  // [T, intermediate]
  const Weight* down;
  float* projected;  // [T, hidden] scratch
  float* x;
  int64_t num_tokens;
};

// The rows that need logits -> final norm -> logits.
struct HeadArgs {
  const float* x;       // [T, hidden]
  const int32_t* rows;  // [num_rows]
  const float* norm_weight;
  float* normed;  // [num_rows, hidden] scratch
  const Weight* head;
  float* logits;  // [num_rows, vocab_size]
  int64_t num_rows;
  int64_t hidden;
  float eps;
};

struct Phases {
  void (*attn_in)(const OpContext&, const Ops&, const AttnInArgs&);
  void (*attn_out)(const OpContext&, const Ops&, const AttnOutArgs&);
  void (*ffn_in)(const OpContext&, const Ops&, const FfnInArgs&);
  void (*ffn_out)(const OpContext&, const Ops&, const FfnOutArgs&);
  void (*head)(const OpContext&, const Ops&, const HeadArgs&);
};

// The compositions.
const Phases& default_phases();

// Weights that share the input x [m, k].
void run_matmuls(const OpContext& context, std::initializer_list<const Weight*> weights,
                 const float* x, std::initializer_list<float*> y, int64_t m);
// Weights that share an input: it is transformed once for neighbours with the same transform, and
// those with the same kernel go in one run, in a span where a trace is kept. All workers meet
// inside; the caller puts a barrier after it.
void run_matmul(const OpContext& context, const MatmulArgs& args);

// One weight, one output: m rows of x.
void run_matmul(const OpContext& context, const Weight& weight, const float* x, float* y,
                int64_t m);

}  // namespace quench
