// One step of the trellis encoder. Limit: eight windows take a load of their metrics, a VPERMPS
// that spreads the costs they start with, an addition and a minimum.
#include <immintrin.h>

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/ops.h"

namespace quench::avx2 {

namespace {

constexpr int kLanes = 8;
constexpr int kTogether = 4;  // minima that do not wait for each other

// to[j][lane] = metric[j ^ index[lane]]: the metrics of eight neighbouring windows, the first of
// which has the index j. What eight of them have in common is only another order of lanes.
void spread_metrics(const TrellisStepArgs& a, float (*to)[kLanes]) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i of_lane =
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(a.index)));
  for (uint64_t left = ~uint64_t{0}; left != 0;) {
    const int j = static_cast<int>(__builtin_ctzll(left));
    const __m256 metric =
        _mm256_i32gather_ps(a.metric, _mm256_xor_si256(of_lane, _mm256_set1_epi32(j)), 4);
    for (int l = 0; l < kLanes; ++l) {
      const int other = j ^ a.index[l];
      _mm256_store_ps(to[other], _mm256_permutevar8x32_ps(
                                     metric, _mm256_xor_si256(lane, _mm256_set1_epi32(l))));
      left &= ~(uint64_t{1} << other);
    }
  }
}

}  // namespace

void trellis_step(const TrellisStepArgs& a) {
  alignas(32) float metrics[64][kLanes];
  spread_metrics(a, metrics);
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  __m256i from[kTogether];  // the costs of a load that the windows of each vector start with
  for (int t = 0; t < kTogether; ++t) {
    const __m256i window = _mm256_add_epi32(lane, _mm256_set1_epi32(t * kLanes));
    from[t] = _mm256_srli_epi32(window, a.bits);
  }
  const int states = 4096 >> a.next;
  for (int v = 0; v < states; v += kTogether * kLanes) {
    __m256 least[kTogether];
    for (int t = 0; t < kTogether; ++t) least[t] = _mm256_set1_ps(__builtin_inff());
    for (int window = v; window < 4096; window += states) {
      const __m256 before = _mm256_loadu_ps(a.cost_in + (window >> a.bits));
      for (int t = 0; t < kTogether; ++t) {
        const __m256 metric = _mm256_load_ps(metrics[a.index[window + t * kLanes]]);
        const __m256 cost = _mm256_add_ps(_mm256_permutevar8x32_ps(before, from[t]), metric);
        least[t] = _mm256_min_ps(cost, least[t]);
      }
    }
    for (int t = 0; t < kTogether; ++t) _mm256_storeu_ps(a.cost_out + v + t * kLanes, least[t]);
  }
}

}  // namespace quench::avx2
