// Integer and table formats at the avxvnni level: 256-bit VPDPBUSD, 32 products an instruction.
#include "devices/cpu/avxvnni/avxvnni.h"
#include "devices/cpu/avxvnni/vec.h"
#include "devices/cpu/grid_run_inl.h"

namespace quench::avxvnni {

const MatmulKernel grid_matmul = {"avxvnni_int8",        grid_strips_accept, grid_strips_bytes,
                                  pack_grid_strips,      gather_grid_strips, grid_run<Vec>,
                                  quantized_input_bytes, Arithmetic::kInt8};

}  // namespace quench::avxvnni
