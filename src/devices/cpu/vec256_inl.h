// The 256-bit vectors that the kernel templates are written in, all but the byte dot product, which
// the avx2 and avxvnni levels add in their own way. Included by those two folders only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quench {
namespace {

struct Vec256 {
  using F = __m256;
  using I = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kVectors = 4;     // of outputs at once: two strips
  static constexpr int kTileTokens = 2;  // 8 accumulators, 4 weights, an input: 13 of 16 registers

  static I load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void store(void* p, I a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a); }
  static F loadf(const float* p) { return _mm256_loadu_ps(p); }
  static void storef(float* p, F a) { _mm256_storeu_ps(p, a); }
  static F load_f16(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I load_u8(const void* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }
  static I zero() { return _mm256_setzero_si256(); }
  static F zerof() { return _mm256_setzero_ps(); }
  static I set32(int32_t a) { return _mm256_set1_epi32(a); }
  static I set8(int a) { return _mm256_set1_epi8(static_cast<char>(a)); }
  static F setf(float a) { return _mm256_set1_ps(a); }
  // Four bytes at p in every lane.
  static I spread32(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return _mm256_set1_epi32(word);
  }
  template <int kBits>
  static I left(I a) {
    return _mm256_slli_epi16(a, kBits);
  }
  template <int kBits>
  static I right(I a) {
    return _mm256_srli_epi16(a, kBits);
  }
  static I left32(I a, int bits) { return _mm256_slli_epi32(a, bits); }
  static I and_(I a, I b) { return _mm256_and_si256(a, b); }
  static I or_(I a, I b) { return _mm256_or_si256(a, b); }
  static I add32(I a, I b) { return _mm256_add_epi32(a, b); }
  static I sub32(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I mul32(I a, I b) { return _mm256_mullo_epi32(a, b); }
  // 16 bytes in both halves; and the byte of it that each index (0 to 15) names.
  static I table(const void* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I look_up(I table, I index) { return _mm256_shuffle_epi8(table, index); }
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static F as_float(I a) { return _mm256_castsi256_ps(a); }
  static F mulf(F a, F b) { return _mm256_mul_ps(a, b); }
  static F addf(F a, F b) { return _mm256_add_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F maxf(F a, F b) { return _mm256_max_ps(a, b); }
  static F absf(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }

  static float max_abs(F a) {
    const F magnitude = absf(a);
    __m128 half =
        _mm_max_ps(_mm256_castps256_ps128(magnitude), _mm256_extractf128_ps(magnitude, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
  }
  // Rounds to even and stores kLanes bytes; returns the 32-bit codes.
  static I store_rounded(int8_t* p, F a) {
    const I codes = _mm256_cvtps_epi32(a);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
    return codes;
  }
  static int32_t sum_lanes(I a) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
  }
  static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
  // Into the second-level cache.
  static void prefetch_far(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
  }
};

}  // namespace
}  // namespace quench
