// bf16, f16 and f32 at the avx2 level: fused multiply-adds on f32 inputs.
#include "devices/cpu/avx2/avx2.h"
#include "devices/cpu/avx2/vec.h"
#include "devices/cpu/float_rows_inl.h"

namespace quench::avx2 {
namespace {

template <template <class> class Weights>
void run(const OpContext& context, const MatmulArgs& a) {
  float_run<Vec, Weights<Vec>>(context, a, a.x);
}

void run_in_file(const OpContext& context, const MatmulArgs& a) {
  float_run<Vec, Bf16Weights<Vec>, FileRows<Vec, Bf16Weights<Vec>>>(context, a, a.x);
}

const MatmulKernel bf16_in_file = {"avx2_bf16_in_file", bf16_rows_accept, float_rows_bytes,
                                   copy_rows,           gather_bf16_rows, run_in_file,
                                   no_scratch};

}  // namespace

const MatmulKernel bf16_matmul = {"avx2_bf16",       bf16_strips_accept,  float_strips_bytes,
                                  pack_float_strips, gather_float_strips, run<Bf16Weights>,
                                  no_scratch,        Arithmetic::kF32,    &bf16_in_file};
const MatmulKernel f16_matmul = {"avx2_f16",        f16_strips_accept,   float_strips_bytes,
                                 pack_float_strips, gather_float_strips, run<F16Weights>,
                                 no_scratch};
const MatmulKernel f32_matmul = {"avx2_f32",        f32_strips_accept,   float_strips_bytes,
                                 pack_float_strips, gather_float_strips, run<F32Weights>,
                                 no_scratch};

}  // namespace quench::avx2
