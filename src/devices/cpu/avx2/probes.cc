#include "devices/cpu/avx2/probes.h"

#include <immintrin.h>

namespace quench::avx2 {
namespace {

// Sixteen registers: twelve sums, more than latency (4) times units (2), leave room for operands.
constexpr int kSums = 12;

// The chains begin at different values: of equal ones the compiler would keep a single one.
void start(__m256* sums) {
  volatile float step = 1.0f;
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_ps(step * static_cast<float>(i));
}
void start(__m256i* sums) {
  volatile int step = 1;
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_epi32(step * i);
}

template <bool kPrefetch>
uint64_t read_streams(const std::byte* data, int64_t part_bytes, int64_t streams,
                      int64_t prefetch_bytes) {
  __m256i sums[4] = {};
  for (int64_t i = 0; i < part_bytes; i += kProbeGrain) {
    for (int64_t s = 0; s < streams; ++s) {
      const std::byte* at = data + s * part_bytes + i;
      for (int64_t line = 0; line < kProbeGrain; line += 64) {
        if (kPrefetch) _mm_prefetch(at + line + prefetch_bytes, _MM_HINT_T0);
        const auto* words = reinterpret_cast<const __m256i*>(at + line);
        const int64_t pair = line / 64 % 2 * 2;
        sums[pair] = _mm256_add_epi64(sums[pair], _mm256_loadu_si256(words));
        sums[pair + 1] = _mm256_add_epi64(sums[pair + 1], _mm256_loadu_si256(words + 1));
      }
    }
  }
  const __m256i sum =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(sum, 0)) +
         static_cast<uint64_t>(_mm256_extract_epi64(sum, 1)) +
         static_cast<uint64_t>(_mm256_extract_epi64(sum, 2)) +
         static_cast<uint64_t>(_mm256_extract_epi64(sum, 3));
}

uint64_t read(const std::byte* data, int64_t size_bytes, int64_t streams, int64_t prefetch_bytes) {
  const int64_t part_bytes = size_bytes / streams;
  return prefetch_bytes > 0 ? read_streams<true>(data, part_bytes, streams, prefetch_bytes)
                            : read_streams<false>(data, part_bytes, streams, 0);
}

float sum_of(__m256 v) {
  float lanes[8];
  _mm256_storeu_ps(lanes, v);
  float total = 0.0f;
  for (const float lane : lanes) total += lane;
  return total;
}

float f32(int64_t rounds) {
  volatile float factor = 0.5f;
  const __m256 a = _mm256_set1_ps(factor);
  __m256 sums[kSums];
  start(sums);
  for (int64_t r = 0; r < rounds; ++r) {
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, a, a);
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return sum_of(sums[0]);
}

// VPMADDUBSW, VPMADDWD with ones, VPADDD: what a byte dot product takes without VNNI.
float int8(int64_t rounds) {
  volatile int one = 1;
  const __m256i ones = _mm256_set1_epi16(static_cast<short>(one));
  __m256i a = _mm256_set1_epi8(static_cast<char>(one));
  __m256i sums[kSums];
  start(sums);
  for (int64_t r = 0; r < rounds; ++r) {
    for (__m256i& sum : sums) {
      // Nothing is changed, but the compiler cannot know and must multiply again.
      asm volatile("" : "+x"(a));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), ones));
    }
  }
  for (int i = 1; i < kSums; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  return sum_of(_mm256_cvtepi32_ps(sums[0]));
}

}  // namespace

void set_probes(Probes& probes) {
  probes.read = read;
  probes.f32 = {f32, kSums * 8 * 2};
  probes.int8 = {int8, kSums * 32 * 2};
}

}  // namespace quench::avx2
