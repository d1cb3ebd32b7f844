// One step of the trellis encoder. Limit: a gather of eight metrics takes some ten cycles.
#include <immintrin.h>

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/ops.h"

namespace quench::avx2 {

void trellis_step(const TrellisStepArgs& a) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i from = _mm256_srli_epi32(lane, a.bits);
  const int states = 4096 >> a.next;
  const int choices = 1 << a.next;
  for (int v = 0; v < states; v += 8) {
    __m256 best = _mm256_setzero_ps();
    __m256i best_high = _mm256_setzero_si256();
    for (int high = 0; high < choices; ++high) {
      const int window = high * states + v;
      const __m256i index =
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(a.index + window)));
      const __m256 metric = _mm256_i32gather_ps(a.metric, index, 4);
      const __m256 before =
          _mm256_permutevar8x32_ps(_mm256_loadu_ps(a.cost_in + (window >> a.bits)), from);
      const __m256 cost = _mm256_add_ps(before, metric);
      if (high == 0) {
        best = cost;
        continue;
      }
      const __m256 better = _mm256_cmp_ps(cost, best, _CMP_LT_OQ);
      best = _mm256_blendv_ps(best, cost, better);
      best_high =
          _mm256_blendv_epi8(best_high, _mm256_set1_epi32(high), _mm256_castps_si256(better));
    }
    _mm256_storeu_ps(a.cost_out + v, best);
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(best_high), _mm256_extracti128_si256(best_high, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(a.back + v), _mm_packus_epi16(words, words));
  }
}

}  // namespace quench::avx2
