// Integer and table formats at the avx2 level: VPMADDUBSW and VPMADDWD, 32 products in three
// instructions.
#include "devices/cpu/avx2/avx2.h"
#include "devices/cpu/avx2/vec.h"
#include "devices/cpu/grid_run_inl.h"

namespace quench::avx2 {

const MatmulKernel grid_matmul = {"avx2_int8",           grid_strips_accept, grid_strips_bytes,
                                  pack_grid_strips,      gather_grid_strips, grid_run<Vec>,
                                  quantized_input_bytes, Arithmetic::kInt8};

}  // namespace quench::avx2
