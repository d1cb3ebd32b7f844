// One step of the trellis encoder. Limit: 16 windows take a load of their metrics, a VPERMPS that
// spreads the costs they start with, an addition and a minimum: two cycles on a Zen 4, whose
// 512-bit operations take two slots. Measured there, spreading the metrics included: 850 cycles per
// step of 256 such vectors, 60 % of it.
#include <immintrin.h>

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/ops.h"

namespace quench::avx512 {
namespace {

constexpr int kLanes = 16;
constexpr int kTogether = 4;  // minima that do not wait for each other

// to[j][lane] = metric[j ^ index[lane]]: the metrics of 16 neighbouring windows, the first of which
// has the index j. What 16 of them have in common is only another order of lanes.
void spread_metrics(const TrellisStepArgs& a, float (*to)[kLanes]) {
  const __m512 m0 = _mm512_loadu_ps(a.metric);
  const __m512 m1 = _mm512_loadu_ps(a.metric + 16);
  const __m512 m2 = _mm512_loadu_ps(a.metric + 32);
  const __m512 m3 = _mm512_loadu_ps(a.metric + 48);
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i of_lane =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a.index)));
  for (uint64_t left = ~uint64_t{0}; left != 0;) {
    const int j = static_cast<int>(__builtin_ctzll(left));
    const __m512i index = _mm512_xor_si512(of_lane, _mm512_set1_epi32(j));
    const __mmask16 is_high = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
    const __m512 metric = _mm512_mask_blend_ps(is_high, _mm512_permutex2var_ps(m0, index, m1),
                                               _mm512_permutex2var_ps(m2, index, m3));
    for (int l = 0; l < kLanes; ++l) {
      const int other = j ^ a.index[l];
      _mm512_store_ps(to[other],
                      _mm512_permutexvar_ps(_mm512_xor_si512(lane, _mm512_set1_epi32(l)), metric));
      left &= ~(uint64_t{1} << other);
    }
  }
}

}  // namespace

void trellis_step(const TrellisStepArgs& a) {
  alignas(64) float metrics[64][kLanes];
  spread_metrics(a, metrics);
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i from[kTogether];  // the costs of a load that the windows of each vector start with
  for (int t = 0; t < kTogether; ++t) {
    const __m512i window = _mm512_add_epi32(lane, _mm512_set1_epi32(t * kLanes));
    from[t] = _mm512_srli_epi32(window, static_cast<unsigned>(a.bits));
  }
  const int states = 4096 >> a.next;
  for (int v = 0; v < states; v += kTogether * kLanes) {
    __m512 least[kTogether];
    for (int t = 0; t < kTogether; ++t) least[t] = _mm512_set1_ps(__builtin_inff());
    for (int window = v; window < 4096; window += states) {
      const __m512 before = _mm512_loadu_ps(a.cost_in + (window >> a.bits));
      for (int t = 0; t < kTogether; ++t) {
        const __m512 metric = _mm512_load_ps(metrics[a.index[window + t * kLanes]]);
        const __m512 cost = _mm512_add_ps(_mm512_permutexvar_ps(from[t], before), metric);
        least[t] = _mm512_min_ps(cost, least[t]);
      }
    }
    for (int t = 0; t < kTogether; ++t) _mm512_storeu_ps(a.cost_out + v + t * kLanes, least[t]);
  }
}

}  // namespace quench::avx512
