// The avx512 level: 512-bit vectors with VNNI, VBMI and BF16. Overrides the rows it does better
// than the level below.
#include "devices/cpu/avx512/avx512.h"
#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/probes.h"

namespace quench {

void apply_avx512(CpuTable& table) {
  table.ops = {avx512::rms_norm,    avx512::rope_table,  avx512::rope,      avx512::kv_store,
               avx512::attention,   avx512::silu_mul,    avx512::add,       avx512::moe_route,
               avx512::moe_combine, avx512::gather_rows, avx512::transform, avx512::trellis_step};
  prefer_kernel(table, avx512::f32_matmul);
  prefer_kernel(table, avx512::f16_matmul);
  prefer_kernel(table, avx512::bf16_matmul);
  prefer_kernel(table, avx512::grid_matmul);
  prefer_kernel(table, avx512::fp8_matmul);
  avx512::set_probes(table.probes);
}

}  // namespace quench
