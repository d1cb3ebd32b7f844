// The avx2 level: 256-bit vectors with FMA. Overrides the rows it does better than the level below.
#include "devices/cpu/avx2/probes.h"
#include "devices/cpu/isa.h"

namespace quench {

void apply_avx2(CpuTable& table) { avx2::set_probes(table.probes); }

}  // namespace quench
