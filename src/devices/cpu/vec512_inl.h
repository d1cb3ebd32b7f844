// Sixteen floats or integers in a register, for the algorithms in devices/cpu/*_inl.h, at the
// levels with 512-bit vectors. Owns nothing. Everything is in an unnamed namespace: each kernel
// file has its own copy, none is shared with the program.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quench {
namespace {

struct Vec512 {
  using F = __m512;
  using I = __m512i;
  static constexpr int64_t kWidth = 16;

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
  // The first n lanes, 0 <= n <= kWidth; the others read as zero and are not written.
  static F load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(lanes_below(n), p); }
  static void store_n(float* p, F v, int64_t n) { _mm512_mask_storeu_ps(p, lanes_below(n), v); }
  static F set1(float x) { return _mm512_set1_ps(x); }
  static F zero() { return _mm512_setzero_ps(); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  // b where neither is less, as where one is not a number.
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  static F abs(F a) { return _mm512_abs_ps(a); }
  // a * b + c and c - a * b, rounded once.
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
  static F round(F a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // p * 2^n where t >= -126 (or NaN), else 0. n = round(t).
  static F scale_by_power(F p, F n, F t) {
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(t, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ), p,
                                  n);
  }
  static float reduce_add(F v) { return _mm512_reduce_add_ps(v); }
  static float reduce_max(F v) { return _mm512_reduce_max_ps(v); }
  // Lane l stays where begin <= l < end, the others become `other`.
  static F keep_lanes(F v, int64_t begin, int64_t end, F other) {
    const auto mask = static_cast<__mmask16>(lanes_below(end) & ~lanes_below(begin));
    return _mm512_mask_blend_ps(mask, other, v);
  }
  // The first lane with v == x, or kWidth.
  static int64_t find(F v, F x) {
    return __builtin_ctz(0x10000u | _mm512_cmp_ps_mask(v, x, _CMP_EQ_OQ));
  }

  static F keep_below(F v, F limit, F other) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(v, limit, _CMP_LT_OQ), other, v);
  }
  // The number q of quarter turns nearest to the angle, and r = angle - q pi/2, in double: pi/2 is
  // its upper 53 bits and the rest.
  static I quarter_turn(F angle, F* r) {
    __m256i q[2];
    __m256 rest[2];
    for (int h = 0; h < 2; ++h) {
      const __m512d x = _mm512_cvtps_pd(h == 0 ? _mm512_castps512_ps256(angle)
                                               : _mm512_extractf32x8_ps(angle, 1));
      const __m512d n = _mm512_roundscale_pd(_mm512_mul_pd(x, _mm512_set1_pd(0.63661977236758134)),
                                             _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      __m512d d = _mm512_fnmadd_pd(n, _mm512_set1_pd(1.5707963267948966), x);
      d = _mm512_fnmadd_pd(n, _mm512_set1_pd(6.123233995736766e-17), d);
      rest[h] = _mm512_cvtpd_ps(d);
      q[h] = _mm512_cvtpd_epi32(n);
    }
    *r = _mm512_insertf32x8(_mm512_castps256_ps512(rest[0]), rest[1], 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(q[0]), q[1], 1);
  }
  static I plus_one(I q) { return _mm512_add_epi32(q, _mm512_set1_epi32(1)); }
  static F choose_if_bit0(I q, F yes, F no) {
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(q, _mm512_set1_epi32(1)), no, yes);
  }
  static F negate_if_bit1(F v, I q) {
    const I sign = _mm512_slli_epi32(_mm512_and_si512(q, _mm512_set1_epi32(2)), 30);
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), sign));
  }

  // Lane l becomes lane order[l] of v.
  static F reorder(F v, I order) { return _mm512_permutexvar_ps(order, v); }
  // Lane l becomes table[index[l]], 0 <= index[l] < 64.
  static F look_up64_f32(const float* table, I index) {
    const F low = _mm512_permutex2var_ps(load(table), index, load(table + 16));
    const F high = _mm512_permutex2var_ps(load(table + 32), index, load(table + 48));
    return _mm512_mask_blend_ps(_mm512_test_epi32_mask(index, _mm512_set1_epi32(32)), low, high);
  }

  // ---- integers, for the matmul kernels ----
  static constexpr int kVectors =
      4;  // of outputs at once: as many independent chains, and read streams
  static constexpr int kTileTokens = 6;  // 24 accumulators, 4 weights, 1 input: 29 of 32 registers
  // Tokens that one strip serves at once, and two side by side (0: never): 16 integer sums.
  static constexpr int kOneStripTokens = 4;
  static constexpr int kTwoStripTokens = 8;
  // From so many tokens on, weights with scales per `unit` columns are unpacked once and used from
  // the cache: where both are as quick on a Zen 5.
  static constexpr int64_t many_tokens(int64_t unit) { return 16 + unit / 4; }
  static constexpr int kGridTileTokens = 3;  // 12 integer and 12 float sums, 3 inputs, 1 weight
  // dot8 counts its unsigned operand from here.
  static constexpr int kDot8Zero = 0;

  static I load_int(const void* p) { return _mm512_loadu_si512(p); }
  static void store_int(void* p, I a) { _mm512_storeu_si512(p, a); }
  static F load_f16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static F load_bf16(const void* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  // Sixteen rows of 64 bytes, `stride` apart, to 16 lines: line i holds the i-th 32 bits of every
  // row.
  static void interleave(const std::byte* rows, int64_t stride, std::byte* lines) {
    // Register 4p + r: of the rows 4q + r, q the 128-bit part, the p-th 16 bytes.
    I quarter[16];
    for (int p = 0; p < 4; ++p) {
      for (int r = 0; r < 4; ++r) {
        const auto part = [&](int q) {
          return _mm_loadu_si128(
              reinterpret_cast<const __m128i*>(rows + (4 * q + r) * stride + 16 * p));
        };
        const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part(0)), part(1), 1);
        const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part(2)), part(3), 1);
        quarter[4 * p + r] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
      }
    }
    // Within each part, 4 x 4 words are turned over.
    for (int p = 0; p < 4; ++p) {
      const I* const q = quarter + 4 * p;
      const I a = _mm512_unpacklo_epi32(q[0], q[1]);
      const I b = _mm512_unpacklo_epi32(q[2], q[3]);
      const I c = _mm512_unpackhi_epi32(q[0], q[1]);
      const I d = _mm512_unpackhi_epi32(q[2], q[3]);
      std::byte* const to = lines + 256 * p;
      store_int(to, _mm512_unpacklo_epi64(a, b));
      store_int(to + 64, _mm512_unpackhi_epi64(a, b));
      store_int(to + 128, _mm512_unpacklo_epi64(c, d));
      store_int(to + 192, _mm512_unpackhi_epi64(c, d));
    }
  }
  static I load_u8(const void* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I load_i8(const void* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I zero_int() { return _mm512_setzero_si512(); }
  static I set32(int32_t a) { return _mm512_set1_epi32(a); }
  static I set8(int a) { return _mm512_set1_epi8(static_cast<char>(a)); }
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
  static I right32(I a, int bits) { return _mm512_srli_epi32(a, static_cast<unsigned>(bits)); }
  static I abs32(I a) { return _mm512_abs_epi32(a); }
  static I bit_and(I a, I b) { return _mm512_and_si512(a, b); }
  static I bit_or(I a, I b) { return _mm512_or_si512(a, b); }
  static I sub32(I a, I b) { return _mm512_sub_epi32(a, b); }
  static I mul32(I a, I b) { return _mm512_mullo_epi32(a, b); }
  // 16 bytes in every 128-bit part; and the byte of it that each index (0 to 15) names.
  static I table(const void* p) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I look_up(I table, I index) { return _mm512_shuffle_epi8(table, index); }
  static I bit_xor(I a, I b) { return _mm512_xor_si512(a, b); }
  // A linear map over GF(2) of every byte: bit q of the result is the parity of rows[q] & byte.
  using BitMap = int64_t;
  static BitMap linear_map(const uint8_t* rows) {
    uint64_t matrix = 0;
    for (int q = 0; q < 8; ++q) matrix |= static_cast<uint64_t>(rows[q]) << (8 * (7 - q));
    return static_cast<BitMap>(matrix);
  }
  static I map_bits(BitMap map, I bytes) {
    return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(map), 0);
  }
  using Table64 = I;
  static Table64 table64(const uint8_t* p) { return _mm512_loadu_si512(p); }
  static I look_up64(Table64 table, I index) { return _mm512_permutexvar_epi8(index, table); }
  // Byte l of the result is byte l - 1 of the 64 bytes at p, and byte 0 is byte 63.
  static I load_previous_lanes(const void* p) {
    alignas(64) static constexpr uint8_t kBefore[64] = {
        63, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
        21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42,
        43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62};
    return _mm512_permutexvar_epi8(_mm512_load_si512(kBefore), _mm512_loadu_si512(p));
  }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static F as_float(I a) { return _mm512_castsi512_ps(a); }
  // sum += the four products of unsigned u and signed x of every lane. dot: u at most 63.
  static I dot(I sum, I u, I x) { return _mm512_dpbusd_epi32(sum, u, x); }
  static I dot8(I sum, I u, I x) { return _mm512_dpbusd_epi32(sum, u, x); }

  // For quantizing: 16 floats.
  // Rounds to even and stores kLanes bytes; returns the 32-bit codes. What is no number becomes 0.
  static I store_rounded(int8_t* p, F a) {
    const I codes = _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a);
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

 private:
  static __mmask16 lanes_below(int64_t n) {
    return static_cast<__mmask16>(_bzhi_u32(0xffffu, n < 0 ? 0 : static_cast<uint32_t>(n)));
  }
};

}  // namespace
}  // namespace quench
