// Byte dot products with AVX-VNNI.
#pragma once

#include <immintrin.h>

#include "devices/cpu/vec256_inl.h"

namespace quench {
namespace {

struct Vec : Vec256 {
  // dot8 counts its unsigned operand from here.
  static constexpr int kDot8Zero = 0;

  // sum += the four products of unsigned u and signed x of every lane.
  static I dot(I sum, I u, I x) { return _mm256_dpbusd_avx_epi32(sum, u, x); }
  static I dot8(I sum, I u, I x) { return _mm256_dpbusd_avx_epi32(sum, u, x); }
};

}  // namespace
}  // namespace quench
