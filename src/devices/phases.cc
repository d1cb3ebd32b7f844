#include "devices/phases.h"

#include "devices/trace.h"

namespace quench {
namespace {

void attn_in(const OpContext& context, const Ops& ops, const AttnInArgs& a) {
  const int64_t tokens = a.batch.num_tokens;
  ops.rms_norm(context, {a.x, a.norm_weight, a.normed, tokens, a.hidden, a.eps});
  context.worker.wait();
  run_matmuls(context, {a.q, a.k, a.v}, a.normed, {a.q_out, a.k_out, a.v_out}, tokens);
  context.worker.wait();
  if (a.q_norm != nullptr) {
    ops.rms_norm(context, {a.q_out, a.q_norm, a.q_out, tokens * a.heads, a.head_dim, a.eps});
    ops.rms_norm(context, {a.k_out, a.k_norm, a.k_out, tokens * a.kv_heads, a.head_dim, a.eps});
    context.worker.wait();
  }
  ops.rope(context, {a.q_out, a.cos_sin, tokens, a.heads, a.head_dim, a.rotary_dim});
  ops.rope(context, {a.k_out, a.cos_sin, tokens, a.kv_heads, a.head_dim, a.rotary_dim});
  context.worker.wait();
  ops.kv_store(context, {a.k_out, a.v_out, a.pages, a.batch, a.kv_heads, a.head_dim});
  context.worker.wait();
}

void project_and_add(const OpContext& context, const Ops& ops, const Weight& weight,
                     const float* in, float* projected, float* x, int64_t tokens) {
  run_matmul(context, weight, in, projected, tokens);
  context.worker.wait();
  ops.add(context, {x, projected, nullptr, tokens, weight.n});
  context.worker.wait();
}

void attn_out(const OpContext& context, const Ops& ops, const AttnOutArgs& a) {
  project_and_add(context, ops, *a.o, a.attention_out, a.projected, a.x, a.num_tokens);
}

void ffn_in(const OpContext& context, const Ops& ops, const FfnInArgs& a) {
  ops.rms_norm(context, {a.x, a.norm_weight, a.normed, a.num_tokens, a.hidden, a.eps});
  context.worker.wait();
  run_matmuls(context, {a.gate, a.up}, a.normed, {a.gate_out, a.up_out}, a.num_tokens);
  context.worker.wait();
  ops.silu_mul(context, {a.gate_out, a.up_out, a.gate_out, a.num_tokens * a.gate->n});
  context.worker.wait();
}

void ffn_out(const OpContext& context, const Ops& ops, const FfnOutArgs& a) {
  project_and_add(context, ops, *a.down, a.activated, a.projected, a.x, a.num_tokens);
}

void head(const OpContext& context, const Ops& ops, const HeadArgs& a) {
  if (a.num_rows == 0) return;
  ops.gather_rows(context, {a.x, a.rows, a.normed, a.num_rows, a.hidden});
  context.worker.wait();
  ops.rms_norm(context, {a.normed, a.norm_weight, a.normed, a.num_rows, a.hidden, a.eps});
  context.worker.wait();
  run_matmul(context, *a.head, a.normed, a.logits, a.num_rows);
  context.worker.wait();
}

}  // namespace

void run_matmul(const OpContext& context, const MatmulArgs& args) {
  for (int64_t begin = 0, end = 0; begin < args.num_weights; begin = end) {
    const Weight& first = *args.weights[begin];
    while (end < args.num_weights && args.weights[end]->kernel == first.kernel &&
           args.weights[end]->transform == first.transform) {
      ++end;
    }
    if (begin > 0) context.worker.wait();  // both runs use the scratch memory
    MatmulArgs part = args;
    part.weights += begin;
    part.y += begin;
    part.num_weights = end - begin;
    if (first.transform != nullptr) {
      first.transform->apply(context, args.x, args.x_rows, first.k, false, context.transformed);
      part.x = context.transformed;
      context.worker.wait();
    }
    if (context.trace != nullptr) {
      run_traced_matmul(context, part);
    } else {
      first.kernel->run(context, part);
    }
  }
}

void run_matmul(const OpContext& context, const Weight& weight, const float* x, float* y,
                int64_t m) {
  const Weight* weights[] = {&weight};
  run_matmul(context, {x, weights, &y, 1, m, m, nullptr, nullptr});
}

void run_matmuls(const OpContext& context, std::initializer_list<const Weight*> weights,
                 const float* x, std::initializer_list<float*> y, int64_t m) {
  run_matmul(context, {x, weights.begin(), y.begin(), static_cast<int64_t>(weights.size()), m, m,
                       nullptr, nullptr});
}

const Phases& default_phases() {
  static const Phases phases = {attn_in, attn_out, ffn_in, ffn_out, head};
  return phases;
}

}  // namespace quench
