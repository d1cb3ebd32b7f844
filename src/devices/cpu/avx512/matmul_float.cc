// bf16, f16 and f32 at the avx512 level. bf16: VDPBF16PS, 32 products an instruction, inputs
// rounded to bf16 once per call; the others: FMA on f32 inputs.
#include "devices/cpu/avx512/avx512.h"
#include "devices/cpu/avx512/vec.h"
#include "devices/cpu/bf16_input_inl.h"
#include "devices/cpu/float_rows_inl.h"

namespace quench::avx512 {
namespace {

struct Bf16Dot {
  using X = uint16_t;
  static constexpr int kBytes = 2;
  static constexpr int kStepColumns = 2;
  template <int kTokens, int kVectors>
  static void step(const std::byte* const (&w)[kVectors], const uint16_t* const (&x)[kTokens],
                   __m512 (&acc)[kTokens][kVectors]) {
    __m512bh weights[kVectors];
    for (int v = 0; v < kVectors; ++v) weights[v] = reinterpret_cast<__m512bh>(Vec::load_int(w[v]));
    for (int t = 0; t < kTokens; ++t) {
      const auto input = reinterpret_cast<__m512bh>(Vec::spread32(x[t]));
      for (int v = 0; v < kVectors; ++v) acc[t][v] = _mm512_dpbf16_ps(acc[t][v], weights[v], input);
    }
  }
};

template <class Place>
void run_bf16(const OpContext& context, const MatmulArgs& a) {
  float_run<Vec, Bf16Dot, Place>(context, a, round_input(context, a));
}

template <template <class> class Weights>
void run(const OpContext& context, const MatmulArgs& a) {
  float_run<Vec, Weights<Vec>>(context, a, a.x);
}

const MatmulKernel bf16_in_file = {"avx512_bf16_in_file", bf16_rows_accept,
                                   float_rows_bytes,      copy_rows,
                                   gather_bf16_rows,      run_bf16<FileRows<Vec, Bf16Dot>>,
                                   bf16_input_bytes,      Arithmetic::kBf16};

}  // namespace

const MatmulKernel bf16_matmul = {
    "avx512_bf16",     bf16_strips_accept,  float_strips_bytes,
    pack_float_strips, gather_float_strips, run_bf16<PackedStrips<Vec, Bf16Dot>>,
    bf16_input_bytes,  Arithmetic::kBf16,   &bf16_in_file};
const MatmulKernel f16_matmul = {"avx512_f16",      f16_strips_accept,   float_strips_bytes,
                                 pack_float_strips, gather_float_strips, run<F16Weights>,
                                 no_scratch};
const MatmulKernel f32_matmul = {"avx512_f32",      f32_strips_accept,   float_strips_bytes,
                                 pack_float_strips, gather_float_strips, run<F32Weights>,
                                 no_scratch};

}  // namespace quench::avx512
