#include "devices/cpu/ref/ref.h"

#include "devices/cpu/isa.h"

namespace quench {

void apply_ref(CpuTable& table) {
  table.ops = {ref::rms_norm,    ref::rope_table,  ref::rope,      ref::kv_store,
               ref::attention,   ref::silu_mul,    ref::add,       ref::moe_route,
               ref::moe_combine, ref::gather_rows, ref::transform, trellis_step};
  table.phases = default_phases();
  prefer_kernel(table, ref::matmul);
  table.probes = ref::probes;
}

}  // namespace quench
