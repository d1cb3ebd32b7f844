// Integer and table formats at the avx512 level: VPDPBUSD, 64 products an instruction.
#include "devices/cpu/avx512/avx512.h"
#include "devices/cpu/avx512/vec.h"
#include "devices/cpu/grid_run_inl.h"

namespace quench::avx512 {

const MatmulKernel grid_matmul = {"avx512_int8",         grid_strips_accept, grid_strips_bytes,
                                  pack_grid_strips,      gather_grid_strips, grid_run<Vec>,
                                  quantized_input_bytes, Arithmetic::kInt8};

}  // namespace quench::avx512
