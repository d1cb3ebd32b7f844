#include "devices/trace.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <initializer_list>

namespace quench {

struct Trace::Track {
  std::vector<TraceSpan> spans;
  std::vector<int64_t> open;  // indices into spans, the innermost last; -1: dropped
  int64_t num_dropped = 0;
};

namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Activations are f32. Operations are counted per element as written in ops.h; a transcendental
// function counts as one.
constexpr int64_t kF32Bytes = 4;

OpCost elementwise(int64_t read_elements, int64_t ops) { return {read_elements * kF32Bytes, ops}; }
OpCost cost_of(const RmsNormArgs& a) {
  return elementwise(a.rows * a.cols + a.cols, 4 * a.rows * a.cols);
}
OpCost cost_of(const RopeTableArgs& a) {
  return elementwise(a.num_tokens * 2, a.num_tokens * a.rotary_dim * 2);
}
OpCost cost_of(const RopeArgs& a) {
  const int64_t rotated = a.num_tokens * a.heads * a.rotary_dim;
  return elementwise(rotated + a.num_tokens * a.rotary_dim, 3 * rotated);
}
OpCost cost_of(const KvStoreArgs& a) {
  return elementwise(2 * a.batch.num_tokens * a.kv_heads * a.head_dim, 0);
}
OpCost cost_of(const SiluMulArgs& a) { return elementwise(2 * a.count, 4 * a.count); }
OpCost cost_of(const AddArgs& a) { return elementwise(2 * a.rows * a.cols, a.rows * a.cols); }
OpCost cost_of(const MoeRouteArgs& a) {
  return elementwise(a.num_tokens * a.num_experts, 2 * a.num_tokens * a.num_experts);
}
OpCost cost_of(const MoeCombineArgs& a) {
  const int64_t products = a.num_tokens * a.experts_per_token * a.cols;
  return elementwise(products + a.num_tokens * a.cols, 2 * products);
}
OpCost cost_of(const GatherRowsArgs& a) { return elementwise(a.num_rows * a.cols, 0); }
// One addition per butterfly and output, then a dot product across the odd number of blocks.
OpCost cost_of(const TransformArgs& a) {
  const int64_t steps = std::countr_zero(static_cast<uint64_t>(a.cols / a.odd));
  return elementwise(a.rows * a.cols, a.permutation != nullptr ? 0 : steps + 2 * a.odd);
}

// Two products of head_dim per query head and key; every key and value of a sequence is read once.
OpCost cost_of(const AttentionArgs& a) {
  OpCost cost;
  cost.arithmetic = a.pages.type == KvType::kF32 ? Arithmetic::kF32 : Arithmetic::kBf16;
  cost.reads_model = true;
  std::vector<int64_t> keys(static_cast<size_t>(a.batch.num_sequences), 0);
  for (int64_t t = 0; t < a.batch.num_tokens; ++t) {
    int64_t seen = a.batch.positions[t] + 1;
    if (a.window > 0) seen = std::min(seen, a.window);
    cost.ops += 4 * a.heads * a.head_dim * seen;
    int64_t& most = keys[static_cast<size_t>(a.batch.sequence[t])];
    most = std::max(most, seen);
  }
  for (const int64_t count : keys) cost.read_bytes += count * (a.pages.page_bytes / kPageTokens);
  return cost;
}

int64_t experts_used(const MatmulArgs& a, const Weight& weight) {
  if (a.expert_begin == nullptr) return 1;
  int64_t used = 0;
  for (int64_t e = 0; e < weight.num_experts; ++e)
    used += a.expert_begin[e + 1] > a.expert_begin[e] ? 1 : 0;
  return used;
}

OpCost matmul_cost(const Weight& weight, int64_t m, int64_t experts) {
  return {experts * weight.packed_bytes, 2 * m * weight.n * weight.k, weight.kernel->arithmetic,
          true};
}

// The weights of a phase: what a fused phase is judged by. Activations are not counted again.
OpCost weights_cost(std::initializer_list<const Weight*> weights, int64_t tokens) {
  OpCost sum;
  for (const Weight* weight : weights) {
    const OpCost one = matmul_cost(*weight, tokens, 1);
    sum = {sum.read_bytes + one.read_bytes, sum.ops + one.ops, one.arithmetic, true};
  }
  return sum;
}

}  // namespace

Trace::Trace(int num_workers, int64_t max_spans) : max_spans_(max_spans) {
  for (int i = 0; i < num_workers; ++i) tracks_.push_back(std::make_unique<Track>());
}
Trace::~Trace() = default;

void Trace::open(int worker, const char* name, const char* detail, int64_t layer,
                 const OpCost& cost) {
  Track& track = *tracks_[static_cast<size_t>(worker)];
  if (static_cast<int64_t>(track.spans.size()) >= max_spans_) {
    ++track.num_dropped;
    track.open.push_back(-1);
    return;
  }
  if (layer < 0 && !track.open.empty() && track.open.back() >= 0)
    layer = track.spans[static_cast<size_t>(track.open.back())].layer;
  const auto depth = static_cast<int>(track.open.size());
  track.open.push_back(static_cast<int64_t>(track.spans.size()));
  track.spans.push_back({name, detail, layer, depth, 0, 0, cost});
  track.spans.back().begin_ns = now_ns();
}

void Trace::close(int worker) {
  const int64_t end_ns = now_ns();
  Track& track = *tracks_[static_cast<size_t>(worker)];
  if (track.open.back() >= 0) track.spans[static_cast<size_t>(track.open.back())].end_ns = end_ns;
  track.open.pop_back();
}

std::span<const TraceSpan> Trace::spans(int worker) const {
  return tracks_[static_cast<size_t>(worker)]->spans;
}

int64_t Trace::num_dropped() const {
  int64_t sum = 0;
  for (const auto& track : tracks_) sum += track->num_dropped;
  return sum;
}

namespace {

// One row of a traced table: the device's own row inside a span. Which row is known at compile
// time, because a table holds plain function pointers.
template <auto Row, class Args>
void traced_op(const OpContext& c, const char* name, const Args& a) {
  const TraceScope scope(c, name, -1, cost_of(a));
  (c.trace->inner_ops().*Row)(c, a);
}

}  // namespace

void Trace::wrap(const Ops& ops, const Phases& phases) {
  inner_ops_ = ops;
  inner_phases_ = phases;
  traced_ops_ = ops;
  traced_phases_ = phases;
  using C = const OpContext&;
  traced_ops_.rms_norm = [](C c, const RmsNormArgs& a) {
    traced_op<&Ops::rms_norm>(c, "rms_norm", a);
  };
  traced_ops_.rope_table = [](C c, const RopeTableArgs& a) {
    traced_op<&Ops::rope_table>(c, "rope_table", a);
  };
  traced_ops_.rope = [](C c, const RopeArgs& a) { traced_op<&Ops::rope>(c, "rope", a); };
  traced_ops_.kv_store = [](C c, const KvStoreArgs& a) {
    traced_op<&Ops::kv_store>(c, "kv_store", a);
  };
  traced_ops_.attention = [](C c, const AttentionArgs& a) {
    traced_op<&Ops::attention>(c, "attention", a);
  };
  traced_ops_.silu_mul = [](C c, const SiluMulArgs& a) {
    traced_op<&Ops::silu_mul>(c, "silu_mul", a);
  };
  traced_ops_.add = [](C c, const AddArgs& a) { traced_op<&Ops::add>(c, "add", a); };
  traced_ops_.moe_route = [](C c, const MoeRouteArgs& a) {
    traced_op<&Ops::moe_route>(c, "moe_route", a);
  };
  traced_ops_.moe_combine = [](C c, const MoeCombineArgs& a) {
    traced_op<&Ops::moe_combine>(c, "moe_combine", a);
  };
  traced_ops_.gather_rows = [](C c, const GatherRowsArgs& a) {
    traced_op<&Ops::gather_rows>(c, "gather_rows", a);
  };
  traced_ops_.transform = [](C c, const TransformArgs& a) {
    traced_op<&Ops::transform>(c, "transform", a);
  };
  traced_phases_.attn_in = [](C c, const Ops& o, const AttnInArgs& a) {
    const TraceScope scope(c, "attn_in", -1, weights_cost({a.q, a.k, a.v}, a.batch.num_tokens));
    c.trace->inner_phases().attn_in(c, o, a);
  };
  traced_phases_.attn_out = [](C c, const Ops& o, const AttnOutArgs& a) {
    const TraceScope scope(c, "attn_out", -1, weights_cost({a.o}, a.num_tokens));
    c.trace->inner_phases().attn_out(c, o, a);
  };
  traced_phases_.ffn_in = [](C c, const Ops& o, const FfnInArgs& a) {
    const TraceScope scope(c, "ffn_in", -1, weights_cost({a.gate, a.up}, a.num_tokens));
    c.trace->inner_phases().ffn_in(c, o, a);
  };
  traced_phases_.ffn_out = [](C c, const Ops& o, const FfnOutArgs& a) {
    const TraceScope scope(c, "ffn_out", -1, weights_cost({a.down}, a.num_tokens));
    c.trace->inner_phases().ffn_out(c, o, a);
  };
  traced_phases_.head = [](C c, const Ops& o, const HeadArgs& a) {
    const TraceScope scope(c, "head", -1,
                           a.num_rows > 0 ? weights_cost({a.head}, a.num_rows) : OpCost{});
    c.trace->inner_phases().head(c, o, a);
  };
}

void run_traced_matmul(const OpContext& context, const MatmulArgs& args) {
  OpCost sum;
  for (int64_t i = 0; i < args.num_weights; ++i) {
    const Weight& weight = *args.weights[i];
    const OpCost one = matmul_cost(weight, args.m, experts_used(args, weight));
    sum = {sum.read_bytes + one.read_bytes, sum.ops + one.ops, one.arithmetic, true};
  }
  const MatmulKernel& kernel = *args.weights[0]->kernel;
  const TraceScope scope(context, "matmul", -1, sum, kernel.name);
  kernel.run(context, args);
}

}  // namespace quench
