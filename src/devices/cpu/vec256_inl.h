// Eight floats or integers in a register, for the algorithms in devices/cpu/*_inl.h: all but the
// byte dot product, which the avx2 and avxvnni levels add in their own way. Included by those two
// folders only, after <immintrin.h>. Owns nothing. Everything is in an unnamed namespace: each
// kernel file has its own copy, none is shared with the program.
#pragma once

#include <cstddef>
#include <cstdint>

namespace quench {
namespace {

struct Vec256 {
  using F = __m256;
  using I = __m256i;
  static constexpr int64_t kWidth = 8;

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
  // The first n lanes, 0 <= n <= kWidth; the others read as zero and are not written.
  static F load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, lanes_below(n)); }
  static void store_n(float* p, F v, int64_t n) { _mm256_maskstore_ps(p, lanes_below(n), v); }
  static F set1(float x) { return _mm256_set1_ps(x); }
  static F zero() { return _mm256_setzero_ps(); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  // b where neither is less, as where one is not a number.
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F sqrt(F a) { return _mm256_sqrt_ps(a); }
  static F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  // a * b + c and c - a * b, rounded once.
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
  static F round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // p * 2^n where t >= -126 (or NaN), else 0. n = round(t); p in [0.7, 1.5], t below 127.
  static F scale_by_power(F p, F n, F t) {
    const __m256i shifted = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    const __m256 scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shifted));
    // NaN: the integer addition would turn it into a number, t + scaled keeps it.
    const __m256 kept =
        _mm256_and_ps(_mm256_cmp_ps(t, _mm256_set1_ps(-126.0f), _CMP_GE_OQ), scaled);
    return _mm256_blendv_ps(kept, t, _mm256_cmp_ps(t, t, _CMP_UNORD_Q));
  }
  static float reduce_add(F v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  static float reduce_max(F v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }
  // Lane l stays where begin <= l < end, the others become `other`.
  static F keep_lanes(F v, int64_t begin, int64_t end, F other) {
    const __m256i mask = _mm256_andnot_si256(lanes_below(begin), lanes_below(end));
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(mask));
  }
  // The first lane with v == x, or kWidth.
  static int64_t find(F v, F x) {
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, x, _CMP_EQ_OQ));
    return __builtin_ctz(0x100u | static_cast<uint32_t>(mask));
  }

  static F keep_below(F v, F limit, F other) {
    return _mm256_blendv_ps(other, v, _mm256_cmp_ps(v, limit, _CMP_LT_OQ));
  }
  // The number q of quarter turns nearest to the angle, and r = angle - q pi/2, in double: pi/2 is
  // its upper 53 bits and the rest.
  static I quarter_turn(F angle, F* r) {
    __m128i q[2];
    __m128 rest[2];
    for (int h = 0; h < 2; ++h) {
      const __m256d x =
          _mm256_cvtps_pd(h == 0 ? _mm256_castps256_ps128(angle) : _mm256_extractf128_ps(angle, 1));
      const __m256d n = _mm256_round_pd(_mm256_mul_pd(x, _mm256_set1_pd(0.63661977236758134)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      __m256d d = _mm256_fnmadd_pd(n, _mm256_set1_pd(1.5707963267948966), x);
      d = _mm256_fnmadd_pd(n, _mm256_set1_pd(6.123233995736766e-17), d);
      rest[h] = _mm256_cvtpd_ps(d);
      q[h] = _mm256_cvtpd_epi32(n);
    }
    *r = _mm256_set_m128(rest[1], rest[0]);
    return _mm256_set_m128i(q[1], q[0]);
  }
  static I plus_one(I q) { return _mm256_add_epi32(q, _mm256_set1_epi32(1)); }
  static F choose_if_bit0(I q, F yes, F no) {
    return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(_mm256_slli_epi32(q, 31)));
  }
  static F negate_if_bit1(F v, I q) {
    const I sign = _mm256_slli_epi32(_mm256_and_si256(q, _mm256_set1_epi32(2)), 30);
    return _mm256_castsi256_ps(_mm256_xor_si256(_mm256_castps_si256(v), sign));
  }

  // Lane l becomes lane order[l] of v.
  static F reorder(F v, I order) { return _mm256_permutevar8x32_ps(v, order); }
  // Lane l becomes table[index[l]], 0 <= index[l] < 64.
  static F look_up64_f32(const float* table, I index) {
    return _mm256_i32gather_ps(table, index, 4);
  }

  // ---- integers, for the matmul kernels ----
  static constexpr int kVectors = 4;     // of outputs at once: two strips
  static constexpr int kTileTokens = 2;  // 8 accumulators, 4 weights, an input: 13 of 16 registers
  // Tokens that one strip serves at once, and two side by side (0: never).
  static constexpr int kOneStripTokens = 4;
  static constexpr int kTwoStripTokens = 0;
  // From so many on, weights are unpacked once and used from the cache.
  static constexpr int64_t many_tokens(int64_t /*unit*/) { return 5; }
  static constexpr int kGridTileTokens =
      2;  // with float sums beside the integers, in part in memory

  // Sixteen rows of 64 bytes, `stride` apart, to 16 lines: line i holds the i-th 32 bits of every
  // row.
  static void interleave(const std::byte* rows, int64_t stride, std::byte* lines) {
    for (int64_t half = 0; half < 2; ++half) {
      for (int64_t column = 0; column < 2; ++column)
        transpose(rows + half * kWidth * stride + column * 32, stride,
                  lines + column * kWidth * 64 + half * 32);
    }
  }
  static I load_int(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void store_int(void* p, I a) { _mm256_storeu_si256(static_cast<__m256i*>(p), a); }
  static F load_f16(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static F load_bf16(const void* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static I load_u8(const void* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }
  static I load_i8(const void* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }
  static I zero_int() { return _mm256_setzero_si256(); }
  static I set32(int32_t a) { return _mm256_set1_epi32(a); }
  static I set8(int a) { return _mm256_set1_epi8(static_cast<char>(a)); }
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
  static I right32(I a, int bits) { return _mm256_srli_epi32(a, bits); }
  static I abs32(I a) { return _mm256_abs_epi32(a); }
  static I bit_and(I a, I b) { return _mm256_and_si256(a, b); }
  static I bit_or(I a, I b) { return _mm256_or_si256(a, b); }
  static I add32(I a, I b) { return _mm256_add_epi32(a, b); }
  static I sub32(I a, I b) { return _mm256_sub_epi32(a, b); }
  static I mul32(I a, I b) { return _mm256_mullo_epi32(a, b); }
  // 16 bytes in both halves; and the byte of it that each index (0 to 15) names.
  static I table(const void* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static I look_up(I table, I index) { return _mm256_shuffle_epi8(table, index); }
  static I bit_xor(I a, I b) { return _mm256_xor_si256(a, b); }
  // A linear map over GF(2) of every byte: bit q of the result is the parity of rows[q] & byte. It
  // is the sum of the maps of the byte's halves, and those are tables of 16.
  struct BitMap {
    I low;
    I high;
  };
  static BitMap linear_map(const uint8_t* rows) {
    uint8_t tables[2][16];
    for (int half = 0; half < 2; ++half) {
      for (int n = 0; n < 16; ++n) {
        int mapped = 0;
        for (int q = 0; q < 8; ++q) {
          const auto bits = static_cast<unsigned>(rows[q] & (half == 0 ? n : n << 4));
          mapped |= __builtin_parity(bits) << q;
        }
        tables[half][n] = static_cast<uint8_t>(mapped);
      }
    }
    return {table(tables[0]), table(tables[1])};
  }
  static I map_bits(const BitMap& map, I bytes) {
    const I nibble = set8(15);
    return bit_xor(look_up(map.low, bit_and(bytes, nibble)),
                   look_up(map.high, bit_and(right<4>(bytes), nibble)));
  }
  struct Table64 {
    I part[4];
  };
  static Table64 table64(const uint8_t* p) {
    return {{table(p), table(p + 16), table(p + 32), table(p + 48)}};
  }
  // index: at most 63. Bits 4 and 5 choose the part; a shift brings them to bit 7 of the byte.
  static I look_up64(const Table64& table, I index) {
    const I low = bit_and(index, set8(15));
    const I bit4 = left<3>(index);
    const I bit5 = left<2>(index);
    const I lower =
        _mm256_blendv_epi8(look_up(table.part[0], low), look_up(table.part[1], low), bit4);
    const I upper =
        _mm256_blendv_epi8(look_up(table.part[2], low), look_up(table.part[3], low), bit4);
    return _mm256_blendv_epi8(lower, upper, bit5);
  }
  // Byte l of the 64 bytes that p is the first or the second half of is replaced by byte l - 1, and
  // byte 0 by byte 63.
  static I load_previous_lanes(const void* p) {
    const auto* bytes = static_cast<const char*>(p);
    const bool is_first_half = (reinterpret_cast<uintptr_t>(p) & 32) == 0;
    if (!is_first_half) return load_int(bytes - 1);
    const I line = load_int(bytes);
    // Within 128-bit parts; what crosses them comes from the part before, or from the ring's end.
    const I crossing = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 48))),
        _mm256_castsi256_si128(line), 1);
    return _mm256_alignr_epi8(line, crossing, 15);
  }
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static F as_float(I a) { return _mm256_castsi256_ps(a); }

  // Rounds to even and stores kLanes bytes; returns the 32-bit codes.
  static I store_rounded(int8_t* p, F a) {
    const I codes = _mm256_cvtps_epi32(_mm256_and_ps(a, _mm256_cmp_ps(a, a, _CMP_ORD_Q)));
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

 private:
  // Eight rows of 32 bytes, `stride` apart: their i-th 32 bits side by side, 64 bytes after the
  // (i - 1)-th.
  static void transpose(const std::byte* rows, int64_t stride, std::byte* to) {
    for (int p = 0; p < 2; ++p) {
      I q[4];  // the p-th 16 bytes of rows r and r + 4
      for (int64_t r = 0; r < 4; ++r) {
        const std::byte* const from = rows + r * stride + 16 * p;
        const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        const __m128i fifth = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 4 * stride));
        q[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(first), fifth, 1);
      }
      const I a = _mm256_unpacklo_epi32(q[0], q[1]);
      const I b = _mm256_unpacklo_epi32(q[2], q[3]);
      const I c = _mm256_unpackhi_epi32(q[0], q[1]);
      const I d = _mm256_unpackhi_epi32(q[2], q[3]);
      store_int(to + 256 * p, _mm256_unpacklo_epi64(a, b));
      store_int(to + 256 * p + 64, _mm256_unpackhi_epi64(a, b));
      store_int(to + 256 * p + 128, _mm256_unpacklo_epi64(c, d));
      store_int(to + 256 * p + 192, _mm256_unpackhi_epi64(c, d));
    }
  }
  static __m256i lanes_below(int64_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
  }
};

}  // namespace
}  // namespace quench
