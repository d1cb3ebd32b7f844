// Mixture-of-experts routing. Small and serial: worker 0 does it, the experts' matmuls are where
// the time goes.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "devices/cpu/ref/ref.h"

namespace quench::ref {
namespace {

// Chooses the K best experts of one token, best first, and their weights.
void route_token(const MoeRouteArgs& a, const float* logits, std::vector<int32_t>& order,
                 int32_t* experts, float* weights) {
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t l, int32_t r) { return logits[l] > logits[r]; });
  double total = 0.0;
  const float maximum = logits[order[0]];
  for (int64_t e = 0; e < a.num_experts; ++e)
    total += std::exp(static_cast<double>(logits[e]) - maximum);
  double chosen = 0.0;
  for (int64_t j = 0; j < a.experts_per_token; ++j) {
    experts[j] = order[static_cast<size_t>(j)];
    const double probability = std::exp(static_cast<double>(logits[experts[j]]) - maximum) / total;
    weights[j] = static_cast<float>(probability);
    chosen += probability;
  }
  if (!a.renormalise) return;
  for (int64_t j = 0; j < a.experts_per_token; ++j) {
    weights[j] = static_cast<float>(static_cast<double>(weights[j]) / chosen);
  }
}

}  // namespace

void moe_route(const OpContext& context, const MoeRouteArgs& a) {
  if (context.worker.index != 0) return;
  const int64_t choices = a.num_tokens * a.experts_per_token;
  std::vector<int32_t> order(static_cast<size_t>(a.num_experts));
  std::vector<int32_t> experts(static_cast<size_t>(choices));
  for (int64_t t = 0; t < a.num_tokens; ++t) {
    route_token(a, a.logits + t * a.num_experts, order, experts.data() + t * a.experts_per_token,
                a.weights + t * a.experts_per_token);
  }
  // Counting sort by expert; tokens stay in order within an expert.
  std::fill(a.expert_begin, a.expert_begin + a.num_experts + 1, 0);
  for (const int32_t expert : experts) ++a.expert_begin[expert + 1];
  for (int64_t e = 0; e < a.num_experts; ++e) a.expert_begin[e + 1] += a.expert_begin[e];
  std::vector<int32_t> next(a.expert_begin, a.expert_begin + a.num_experts);
  for (int64_t c = 0; c < choices; ++c) {
    const int32_t row = next[static_cast<size_t>(experts[static_cast<size_t>(c)])]++;
    a.sorted_row[c] = row;
    a.sorted_token[row] = static_cast<int32_t>(c / a.experts_per_token);
  }
}

void moe_combine(const OpContext& context, const MoeCombineArgs& a) {
  const Range range = worker_range(context.worker, a.num_tokens);
  for (int64_t t = range.begin; t < range.end; ++t) {
    float* x = a.x + t * a.cols;
    for (int64_t i = 0; i < a.cols; ++i) {
      float sum = 0.0f;
      for (int64_t j = 0; j < a.experts_per_token; ++j) {
        const int64_t choice = t * a.experts_per_token + j;
        sum += a.weights[choice] * a.y[a.sorted_row[choice] * a.cols + i];
      }
      x[i] += sum;
    }
  }
}

}  // namespace quench::ref
