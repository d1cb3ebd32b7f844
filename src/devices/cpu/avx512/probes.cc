#include "devices/cpu/avx512/probes.h"

#include <immintrin.h>

namespace quench::avx512 {
namespace {

// Thirty-two registers; more sums than latency (5) times units (2).
constexpr int kSums = 16;

// The chains begin at different values: of equal ones the compiler would keep a single one.
void start(__m512* sums) {
  volatile float step = 1.0f;
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_ps(step * static_cast<float>(i));
}
void start(__m512i* sums) {
  volatile int step = 1;
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_epi32(step * i);
}
void start(__m256i* sums) {
  volatile int step = 1;
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_epi32(step * i);
}

template <bool kPrefetch>
uint64_t read_streams(const std::byte* data, int64_t part_bytes, int64_t streams,
                      int64_t prefetch_bytes) {
  __m512i sums[4] = {};
  for (int64_t i = 0; i < part_bytes; i += kProbeGrain) {
    for (int64_t s = 0; s < streams; ++s) {
      const std::byte* at = data + s * part_bytes + i;
      for (int64_t line = 0; line < kProbeGrain / 64; ++line) {
        if (kPrefetch) _mm_prefetch(at + line * 64 + prefetch_bytes, _MM_HINT_T0);
        sums[line] = _mm512_add_epi64(sums[line], _mm512_loadu_si512(at + line * 64));
      }
    }
  }
  int64_t lanes[8];
  _mm512_storeu_si512(lanes, _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]),
                                              _mm512_add_epi64(sums[2], sums[3])));
  uint64_t total = 0;
  for (const int64_t lane : lanes) total += static_cast<uint64_t>(lane);
  return total;
}

uint64_t read(const std::byte* data, int64_t size_bytes, int64_t streams, int64_t prefetch_bytes) {
  const int64_t part_bytes = size_bytes / streams;
  return prefetch_bytes > 0 ? read_streams<true>(data, part_bytes, streams, prefetch_bytes)
                            : read_streams<false>(data, part_bytes, streams, 0);
}

float sum_of(const __m512* sums) {
  __m512 sum = sums[0];
  for (int i = 1; i < kSums; ++i) sum = _mm512_add_ps(sum, sums[i]);
  float lanes[16];
  _mm512_storeu_ps(lanes, sum);
  float total = 0.0f;
  for (const float lane : lanes) total += lane;
  return total;
}

float f32(int64_t rounds) {
  volatile float factor = 0.5f;
  const __m512 a = _mm512_set1_ps(factor);
  __m512 sums[kSums];
  start(sums);
  for (int64_t r = 0; r < rounds; ++r) {
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, a, a);
  }
  return sum_of(sums);
}

// VDPBF16PS.
float bf16(int64_t rounds) {
  volatile float factor = 0.5f;
  const __m512 half = _mm512_set1_ps(factor);
  const __m512bh a = _mm512_cvtne2ps_pbh(half, half);
  __m512 sums[kSums];
  start(sums);
  for (int64_t r = 0; r < rounds; ++r) {
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, a, a);
  }
  return sum_of(sums);
}

float total_of(const int32_t* lanes, int count) {
  int64_t total = 0;
  for (int i = 0; i < count; ++i) total += lanes[i];
  return static_cast<float>(total);
}

// VPDPBUSD on 512 and on 256 bits.
float int8(int64_t rounds) {
  volatile int one = 1;
  const __m512i a = _mm512_set1_epi8(static_cast<char>(one));
  __m512i sums[kSums];
  start(sums);
  for (int64_t r = 0; r < rounds; ++r) {
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, a);
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  int32_t lanes[16];
  _mm512_storeu_si512(lanes, sums[0]);
  return total_of(lanes, 16);
}

float int8_narrow(int64_t rounds) {
  volatile int one = 1;
  const __m256i a = _mm256_set1_epi8(static_cast<char>(one));
  __m256i sums[kSums];
  start(sums);
  for (int64_t r = 0; r < rounds; ++r) {
    for (__m256i& sum : sums) sum = _mm256_dpbusd_epi32(sum, a, a);
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  int32_t lanes[8];
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), sums[0]);
  return total_of(lanes, 8);
}

}  // namespace

void set_probes(Probes& probes) {
  probes.read = read;
  probes.f32 = {f32, kSums * 16 * 2};
  probes.bf16 = {bf16, kSums * 32 * 2};
  probes.int8 = {int8, kSums * 64 * 2};
  probes.int8_narrow = {int8_narrow, kSums * 32 * 2};
}

}  // namespace quench::avx512
