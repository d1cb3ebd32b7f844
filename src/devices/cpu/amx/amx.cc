// The amx level: products of 16 x 16 tiles, for int8 from five tokens on and for bf16 always.
// Everything else is the avx512 level's.
#include "devices/cpu/amx/amx.h"
#include "devices/cpu/amx/probes.h"

namespace quench {

void apply_amx(CpuTable& table) {
  prefer_kernel(table, amx::bf16_matmul);
  prefer_kernel(table, amx::grid_matmul);
  amx::set_probes(table.probes);
}

}  // namespace quench
