// What the amx level has to offer.
#pragma once

#include "devices/cpu/isa.h"
#include "devices/cpu/strip_pack.h"

namespace quench::amx {

// Grid formats (integers, tables), inputs as int8 per 128 columns: the bits of the avx512 level.
extern const MatmulKernel grid_matmul;
// bf16, inputs as bf16.
extern const MatmulKernel bf16_matmul;

}  // namespace quench::amx
