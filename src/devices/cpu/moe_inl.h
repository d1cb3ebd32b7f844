// Mixture-of-experts routing and combination over a vector class.
#pragma once

#include "devices/cpu/exp_inl.h"
#include "devices/ops.h"

namespace quench {
namespace {

// The first index in [from, n) with x[i] == value, or n.
template <class V>
inline int64_t find_equal(const float* x, int64_t from, int64_t n, float value) {
  for (int64_t i = from; i < n; i += V::kWidth) {
    const int64_t count = n - i < V::kWidth ? n - i : V::kWidth;
    const int64_t lane = V::find(V::load_n(x + i, count), V::set1(value));
    if (lane < count) return i + lane;
  }
  return n;
}

// The largest x[i] below `limit`, or minus infinity.
template <class V>
inline float max_below(const float* x, int64_t n, float limit) {
  const typename V::F lowest = V::set1(-__builtin_inff());
  typename V::F largest = lowest;
  for (int64_t i = 0; i < n; i += V::kWidth) {
    const int64_t count = n - i < V::kWidth ? n - i : V::kWidth;
    const typename V::F v = V::keep_lanes(V::load_n(x + i, count), 0, count, lowest);
    largest = V::max(largest, V::keep_below(v, V::set1(limit), lowest));
  }
  return V::reduce_max(largest);
}

template <class V>
inline float sum_of_exp(const float* x, int64_t n, float shift) {
  const typename V::F lowest = V::set1(-__builtin_inff());
  typename V::F sum = V::zero();
  for (int64_t i = 0; i < n; i += V::kWidth) {
    const int64_t count = n - i < V::kWidth ? n - i : V::kWidth;
    const typename V::F v = V::keep_lanes(V::load_n(x + i, count), 0, count, lowest);
    sum = V::add(sum, exp<V>(V::sub(v, V::set1(shift))));
  }
  return V::reduce_add(sum);
}

// The K best experts of one token, best first, lowest index first among equals, and their
// probabilities.
template <class V>
inline void route_token(const MoeRouteArgs& a, const float* logits, int32_t* experts,
                        float* weights) {
  const int64_t n = a.num_experts;
  const float maximum = max_below<V>(logits, n, __builtin_inff());
  const float total = sum_of_exp<V>(logits, n, maximum);
  float chosen = 0.0f;
  float best = maximum;
  int64_t expert = -1;
  for (int64_t j = 0; j < a.experts_per_token; ++j) {
    // Another one as good as the last, else the best of the lesser ones.
    expert = find_equal<V>(logits, expert + 1, n, best);
    if (expert == n) {
      best = max_below<V>(logits, n, best);
      expert = find_equal<V>(logits, 0, n, best);
    }
    if (expert == n) expert = n - 1;  // logits that are no numbers
    float lanes[V::kWidth];
    V::store(lanes, exp<V>(V::set1(best - maximum)));
    experts[j] = static_cast<int32_t>(expert);
    weights[j] = lanes[0] / total;
    chosen += weights[j];
  }
  if (!a.renormalise) return;
  for (int64_t j = 0; j < a.experts_per_token; ++j) weights[j] /= chosen;
}

// Workers share the tokens; the counting sort, a few thousand additions, is worker 0's.
template <class V>
inline void moe_route_all(const OpContext& context, const MoeRouteArgs& a) {
  const int64_t k = a.experts_per_token;
  const Range range = worker_range(context.worker, a.num_tokens);
  for (int64_t t = range.begin; t < range.end; ++t) {
    // The choices wait in sorted_row until their rows are known.
    route_token<V>(a, a.logits + t * a.num_experts, a.sorted_row + t * k, a.weights + t * k);
  }
  context.worker.wait();
  if (context.worker.index != 0) return;
  // expert_begin[e + 1] counts the rows of e, then is where e's next row goes, and in the end, e's
  // rows all placed, where e + 1 begins.
  int32_t* next = a.expert_begin + 1;
  for (int64_t e = 0; e <= a.num_experts; ++e) a.expert_begin[e] = 0;
  for (int64_t c = 0; c < a.num_tokens * k; ++c) ++next[a.sorted_row[c]];
  int32_t begin = 0;
  for (int64_t e = 0; e < a.num_experts; ++e) {
    const int32_t count = next[e];
    next[e] = begin;
    begin += count;
  }
  for (int64_t c = 0; c < a.num_tokens * k; ++c) {
    const int32_t row = next[a.sorted_row[c]]++;
    a.sorted_row[c] = row;
    a.sorted_token[row] = static_cast<int32_t>(c / k);
  }
}

template <class V>
inline void moe_combine_all(const OpContext& context, const MoeCombineArgs& a) {
  // In pieces of rows, so that one decoded token keeps all workers busy.
  constexpr int64_t kPiece = 128;
  const int64_t pieces = (a.cols + kPiece - 1) / kPiece;
  const Range range = worker_range(context.worker, a.num_tokens * pieces);
  for (int64_t p = range.begin; p < range.end; ++p) {
    const int64_t t = p / pieces;
    const int64_t begin = p % pieces * kPiece;
    const int64_t end = begin + kPiece < a.cols ? begin + kPiece : a.cols;
    for (int64_t i = begin; i < end; i += V::kWidth) {
      const int64_t n = end - i < V::kWidth ? end - i : V::kWidth;
      typename V::F sum = V::zero();
      for (int64_t j = 0; j < a.experts_per_token; ++j) {
        const int64_t choice = t * a.experts_per_token + j;
        const float* y = a.y + a.sorted_row[choice] * a.cols + i;
        sum = V::fma(V::set1(a.weights[choice]), V::load_n(y, n), sum);
      }
      float* x = a.x + t * a.cols + i;
      V::store_n(x, V::add(V::load_n(x, n), sum), n);
    }
  }
}

}  // namespace
}  // namespace quench
