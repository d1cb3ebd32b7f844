// e4m3 at the avx2 level: codes to f16, to f32, fused multiply-adds on f32 inputs.
#include "devices/cpu/avx2/avx2.h"
#include "devices/cpu/avx2/vec.h"
#include "devices/cpu/fp8_matmul_inl.h"

namespace quench::avx2 {
namespace {

struct FloatFp8 {
  using X = float;
  using W = __m256;
  static constexpr int64_t kStepColumns = 1;
  static constexpr int64_t kUnpackColumns = 1;
  // Sign to the top, exponent and mantissa below the highest exponent bit.
  static void unpack(const std::byte* at, W* w) {
    const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
    const __m128i words = _mm_slli_epi16(_mm_cvtepi8_epi16(codes), 7);
    *w = _mm256_cvtph_ps(_mm_and_si128(words, _mm_set1_epi16(static_cast<int16_t>(0xbf80))));
  }
  static W load(const std::byte* at) { return _mm256_load_ps(reinterpret_cast<const float*>(at)); }
  static void store(std::byte* at, W w) { _mm256_store_ps(reinterpret_cast<float*>(at), w); }
  static __m256 step(__m256 sum, W w, const float* x) { return Vec::fma(w, Vec::set1(*x), sum); }
};

void run(const OpContext& context, const MatmulArgs& a) { fp8_run<Vec, FloatFp8>(context, a, a.x); }

}  // namespace

const MatmulKernel fp8_matmul = {"avx2_fp8",      fp8_strips_accept, fp8_strips_bytes,
                                 pack_fp8_strips, gather_fp8_strips, run,
                                 no_scratch};

}  // namespace quench::avx2
