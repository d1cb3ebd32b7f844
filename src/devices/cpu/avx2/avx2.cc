// The avx2 level: 256-bit vectors with FMA. Overrides the rows it does better than the level below.
#include "devices/cpu/avx2/avx2.h"

namespace quench {

void apply_avx2(CpuTable& table) {
  prefer_kernel(table, avx2::f32_matmul);
  prefer_kernel(table, avx2::f16_matmul);
  prefer_kernel(table, avx2::bf16_matmul);
  prefer_kernel(table, avx2::grid_matmul);
}

}  // namespace quench
