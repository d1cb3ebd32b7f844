// The 512-bit vectors that the kernel templates of devices/cpu/*_inl.h are written in.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace quench {
namespace {

struct Vec {
  using F = __m512;
  using I = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kVectors =
      4;  // of outputs at once: as many independent chains, and read streams
  static constexpr int kTileTokens = 6;  // 24 accumulators, 4 weights, 1 input: 29 of 32 registers
  // dot8 counts its unsigned operand from here.
  static constexpr int kDot8Zero = 0;

  static I load(const void* p) { return _mm512_loadu_si512(p); }
  static void store(void* p, I a) { _mm512_storeu_si512(p, a); }
  static F loadf(const float* p) { return _mm512_loadu_ps(p); }
  static void storef(float* p, F a) { _mm512_storeu_ps(p, a); }
  static F load_f16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static I load_u8(const void* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I zero() { return _mm512_setzero_si512(); }
  static F zerof() { return _mm512_setzero_ps(); }
  static I set32(int32_t a) { return _mm512_set1_epi32(a); }
  static I set8(int a) { return _mm512_set1_epi8(static_cast<char>(a)); }
  static F setf(float a) { return _mm512_set1_ps(a); }
  // Four bytes at p in every lane.
  static I spread32(const void* p) {
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
  }
  template <int kBits>
  static I left(I a) {
    return _mm512_slli_epi16(a, kBits);
  }
  template <int kBits>
  static I right(I a) {
    return _mm512_srli_epi16(a, kBits);
  }
  static I left32(I a, int bits) { return _mm512_slli_epi32(a, static_cast<unsigned>(bits)); }
  static I and_(I a, I b) { return _mm512_and_si512(a, b); }
  static I or_(I a, I b) { return _mm512_or_si512(a, b); }
  static I sub32(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I mul32(I a, I b) { return _mm512_mullo_epi32(a, b); }
  // 16 bytes in every 128-bit part; and the byte of it that each index (0 to 15) names.
  static I table(const void* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I look_up(I table, I index) { return _mm512_shuffle_epi8(table, index); }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static F as_float(I a) { return _mm512_castsi512_ps(a); }
  static F mulf(F a, F b) { return _mm512_mul_ps(a, b); }
  static F addf(F a, F b) { return _mm512_add_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  // sum += the four products of unsigned u and signed x of every lane. dot: u at most 63.
  static I dot(I sum, I u, I x) { return _mm512_dpbusd_epi32(sum, u, x); }
  static I dot8(I sum, I u, I x) { return _mm512_dpbusd_epi32(sum, u, x); }

  // For quantizing: 16 floats.
  static float max_abs(F a) { return _mm512_reduce_max_ps(_mm512_abs_ps(a)); }
  static F maxf(F a, F b) { return _mm512_max_ps(a, b); }
  static F absf(F a) { return _mm512_abs_ps(a); }
  // Rounds to even and stores kLanes bytes; returns the 32-bit codes.
  static I store_rounded(int8_t* p, F a) {
    const I codes = _mm512_cvtps_epi32(a);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(codes));
    return codes;
  }
  static I add32(I a, I b) { return _mm512_add_epi32(a, b); }
  static int32_t sum_lanes(I a) { return _mm512_reduce_add_epi32(a); }
  static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
  // Into the second-level cache.
  static void prefetch_far(const void* p) {
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
  }
};

}  // namespace
}  // namespace quench
