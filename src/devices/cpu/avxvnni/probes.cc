#include "devices/cpu/avxvnni/probes.h"

#include <immintrin.h>

namespace quench::avxvnni {
namespace {

constexpr int kSums = 12;  // as many as sixteen registers leave room for

// VPDPBUSD on 256 bits.
float int8(int64_t rounds) {
  volatile int one = 1;
  const __m256i a = _mm256_set1_epi8(static_cast<char>(one));
  __m256i sums[kSums];  // different at first: of equal ones the compiler would keep a single one
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_epi32(one * i);
  for (int64_t r = 0; r < rounds; ++r) {
    for (__m256i& sum : sums) sum = _mm256_dpbusd_avx_epi32(sum, a, a);
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  int32_t lanes[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), sums[0]);
  int64_t total = 0;
  for (const int32_t lane : lanes) total += lane;
  return static_cast<float>(total);
}

}  // namespace

void set_probes(Probes& probes) { probes.int8 = {int8, kSums * 32 * 2}; }

}  // namespace quench::avxvnni
