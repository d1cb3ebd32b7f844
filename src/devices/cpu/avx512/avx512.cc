// The avx512 level: 512-bit vectors with VNNI, VBMI and BF16. Overrides the rows it does better
// than the level below.
#include "devices/cpu/avx512/avx512.h"

namespace quench {

void apply_avx512(CpuTable& table) {
  prefer_kernel(table, avx512::f32_matmul);
  prefer_kernel(table, avx512::f16_matmul);
  prefer_kernel(table, avx512::bf16_matmul);
  prefer_kernel(table, avx512::grid_matmul);
}

}  // namespace quench
