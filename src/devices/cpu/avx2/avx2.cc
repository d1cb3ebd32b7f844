// The avx2 level: 256-bit vectors with FMA. Overrides the rows it does better than the level below.
#include "devices/cpu/avx2/avx2.h"
#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/probes.h"

namespace quench {

void apply_avx2(CpuTable& table) {
  table.ops = {avx2::rms_norm,    avx2::rope_table,  avx2::rope,      avx2::kv_store,
               avx2::attention,   avx2::silu_mul,    avx2::add,       avx2::moe_route,
               avx2::moe_combine, avx2::gather_rows, avx2::transform, avx2::trellis_step};
  prefer_kernel(table, avx2::f32_matmul);
  prefer_kernel(table, avx2::f16_matmul);
  prefer_kernel(table, avx2::bf16_matmul);
  prefer_kernel(table, avx2::grid_matmul);
  prefer_kernel(table, avx2::fp8_matmul);
  avx2::set_probes(table.probes);
}

}  // namespace quench
