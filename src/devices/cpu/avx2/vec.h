// Byte dot products with AVX2 alone.
#pragma once

#include <immintrin.h>

#include "devices/cpu/vec256_inl.h"

namespace quench {
namespace {

struct Vec : Vec256 {
  // dot8 counts its unsigned operand from here.
  static constexpr int kDot8Zero = 128;

  // sum += the four products of unsigned u, at most 63, and signed x of every lane: pairs stay
  // below 2 * 63 * 127 = 16002 and fit 16 bits.
  static I dot(I sum, I u, I x) {
    sum =
        _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, x), _mm256_set1_epi16(1)));
    // Added here and now: GCC 12 puts the additions of a long run off to its end, and the products
    // do not fit the registers.
    __asm__("" : "+x"(sum));
    return sum;
  }
  // sum += the products of (u - 128) and x. VPMADDUBSW wants one unsigned operand: the sign of the
  // weight goes to x, which is at most 127 in magnitude, so pairs stay below 2 * 128 * 127 = 32512.
  static I dot8(I sum, I u, I x) {
    const I weights = _mm256_xor_si256(u, _mm256_set1_epi8(static_cast<char>(0x80)));
    return dot(sum, _mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
  }
};

}  // namespace
}  // namespace quench
