// The avx512 level: 512-bit vectors with VNNI, VBMI and BF16. Overrides the rows it does better
// than the level below.
#include "devices/cpu/avx512/probes.h"
#include "devices/cpu/isa.h"

namespace quench {

void apply_avx512(CpuTable& table) { avx512::set_probes(table.probes); }

}  // namespace quench
