// One step of the trellis encoder. Limit: the metrics of 4096 windows come from a table of 64
// floats, two VPERMT2PS for 16 of them, beside a VPERMPS that spreads the costs.
#include <immintrin.h>

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/ops.h"

namespace quench::avx512 {

void trellis_step(const TrellisStepArgs& a) {
  const __m512 m0 = _mm512_loadu_ps(a.metric);
  const __m512 m1 = _mm512_loadu_ps(a.metric + 16);
  const __m512 m2 = _mm512_loadu_ps(a.metric + 32);
  const __m512 m3 = _mm512_loadu_ps(a.metric + 48);
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i from = _mm512_srli_epi32(lane, static_cast<unsigned>(a.bits));
  const int states = 4096 >> a.next;
  const int choices = 1 << a.next;
  for (int v = 0; v < states; v += 16) {
    __m512 best = _mm512_setzero_ps();
    __m512i best_high = _mm512_setzero_si512();
    for (int high = 0; high < choices; ++high) {
      const int window = high * states + v;
      const __m512i index =
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a.index + window)));
      const __m512 low_half = _mm512_permutex2var_ps(m0, index, m1);
      const __m512 high_half = _mm512_permutex2var_ps(m2, index, m3);
      const __mmask16 is_high = _mm512_test_epi32_mask(index, _mm512_set1_epi32(32));
      const __m512 metric = _mm512_mask_blend_ps(is_high, low_half, high_half);
      const __m512 before =
          _mm512_permutexvar_ps(from, _mm512_loadu_ps(a.cost_in + (window >> a.bits)));
      const __m512 cost = _mm512_add_ps(before, metric);
      if (high == 0) {
        best = cost;
        continue;
      }
      const __mmask16 better = _mm512_cmp_ps_mask(cost, best, _CMP_LT_OQ);
      best = _mm512_mask_mov_ps(best, better, cost);
      best_high = _mm512_mask_mov_epi32(best_high, better, _mm512_set1_epi32(high));
    }
    _mm512_storeu_ps(a.cost_out + v, best);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(a.back + v), _mm512_cvtepi32_epi8(best_high));
  }
}

}  // namespace quench::avx512
