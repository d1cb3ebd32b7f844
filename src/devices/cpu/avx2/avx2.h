// What the avx2 level has to offer.
#pragma once

#include "devices/cpu/isa.h"
#include "devices/cpu/strip_pack.h"

namespace quench::avx2 {

// Grid formats (integers, tables), inputs as int8 per 128 columns.
extern const MatmulKernel grid_matmul;
// Inputs as f32.
extern const MatmulKernel bf16_matmul;
extern const MatmulKernel f16_matmul;
extern const MatmulKernel f32_matmul;
extern const MatmulKernel fp8_matmul;

}  // namespace quench::avx2
