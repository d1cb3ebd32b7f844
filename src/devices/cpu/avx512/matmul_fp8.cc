// e4m3 at the avx512 level: codes to f16, to f32, to pairs of bf16, all exact, and VDPBF16PS on
// inputs rounded to bf16 once per call.
#include "devices/cpu/avx512/avx512.h"
#include "devices/cpu/avx512/vec.h"
#include "devices/cpu/bf16_input_inl.h"
#include "devices/cpu/fp8_matmul_inl.h"

namespace quench::avx512 {
namespace {

struct Bf16Fp8 {
  using X = uint16_t;
  using W = __m512i;
  static constexpr int64_t kStepColumns = 2;
  // The first column in the low half of a lane.
  static W weights(const std::byte* at) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    // Sign to the top, exponent and mantissa below the highest exponent bit.
    const __m512i words = _mm512_and_si512(_mm512_slli_epi16(_mm512_cvtepi8_epi16(codes), 7),
                                           _mm512_set1_epi16(static_cast<int16_t>(0xbf80)));
    const __m512 first = _mm512_cvtph_ps(_mm512_castsi512_si256(words));
    const __m512 second = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(words, 1));
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(_mm512_castps_si512(first), 16),
                                   _mm512_castps_si512(second));
  }
  static W load(const std::byte* at) { return _mm512_load_si512(at); }
  static void store(std::byte* at, W w) { _mm512_store_si512(at, w); }
  static __m512 step(__m512 sum, W w, const uint16_t* x) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w),
                            reinterpret_cast<__m512bh>(Vec::spread32(x)));
  }
};

void run(const OpContext& context, const MatmulArgs& a) {
  fp8_run<Vec, Bf16Fp8>(context, a, round_input(context, a));
}

}  // namespace

const MatmulKernel fp8_matmul = {"avx512_fp8",     fp8_strips_accept, fp8_strips_bytes,
                                 pack_fp8_strips,  gather_fp8_strips, run,
                                 bf16_input_bytes, Arithmetic::kBf16};

}  // namespace quench::avx512
