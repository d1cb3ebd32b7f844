// What the avx512 level has to offer.
#pragma once

#include "devices/cpu/isa.h"
#include "devices/cpu/strip_pack.h"

namespace quench::avx512 {

// Grid formats (integers, tables), inputs as int8 per 128 columns.
extern const MatmulKernel grid_matmul;
// bf16, inputs as bf16; f16 and f32, inputs as f32.
extern const MatmulKernel bf16_matmul;
extern const MatmulKernel f16_matmul;
extern const MatmulKernel f32_matmul;
extern const MatmulKernel fp8_matmul;

}  // namespace quench::avx512
