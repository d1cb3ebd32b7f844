// One step of the trellis encoder (formats/trellis_code.h), over a vector class. A vector of
// neighbouring windows takes a load of their metrics, a reordering that spreads the costs they
// start with, an addition and a minimum.
#pragma once

#include "devices/ops.h"

namespace quench {
namespace {

// to[j][lane] = metric[j ^ index[lane]]: the metrics of a vector of neighbouring windows, the first
// of which has the index j. What kWidth of them have in common is only another order of lanes.
template <class V>
inline void spread_metrics(const TrellisStepArgs& a, typename V::I lane, float (*to)[V::kWidth]) {
  const typename V::I of_lane = V::load_u8(a.index);
  for (uint64_t left = ~uint64_t{0}; left != 0;) {
    const int j = __builtin_ctzll(left);
    const typename V::F metric = V::look_up64_f32(a.metric, V::bit_xor(of_lane, V::set32(j)));
    for (int l = 0; l < V::kWidth; ++l) {
      const int other = j ^ a.index[l];
      V::store(to[other], V::reorder(metric, V::bit_xor(lane, V::set32(l))));
      left &= ~(uint64_t{1} << other);
    }
  }
}

template <class V>
inline void step_trellis(const TrellisStepArgs& a) {
  constexpr int kLanes = V::kWidth;
  constexpr int kTogether = 4;  // minima that do not wait for each other
  static constexpr uint8_t kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const typename V::I lane = V::load_u8(kLane);
  alignas(64) float metrics[64][kLanes];
  spread_metrics<V>(a, lane, metrics);
  typename V::I from[kTogether];  // the costs of a load that the windows of each vector start with
  for (int t = 0; t < kTogether; ++t)
    from[t] = V::right32(V::add32(lane, V::set32(t * kLanes)), a.bits);
  const int states = 4096 >> a.next;
  for (int v = 0; v < states; v += kTogether * kLanes) {
    typename V::F least[kTogether];
    for (int t = 0; t < kTogether; ++t) least[t] = V::set1(__builtin_inff());
    for (int window = v; window < 4096; window += states) {
      const typename V::F before = V::load(a.cost_in + (window >> a.bits));
      for (int t = 0; t < kTogether; ++t) {
        const typename V::F metric = V::load(metrics[a.index[window + t * kLanes]]);
        least[t] = V::min(V::add(V::reorder(before, from[t]), metric), least[t]);
      }
    }
    for (int t = 0; t < kTogether; ++t) V::store(a.cost_out + v + t * kLanes, least[t]);
  }
}

}  // namespace
}  // namespace quench
