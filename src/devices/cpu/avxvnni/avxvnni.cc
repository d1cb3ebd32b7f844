// The avxvnni level: 256-bit vectors with the byte dot product. Overrides the rows it does better
// than the level below.
#include "devices/cpu/avxvnni/probes.h"
#include "devices/cpu/isa.h"

namespace quench {

void apply_avxvnni(CpuTable& table) { avxvnni::set_probes(table.probes); }

}  // namespace quench
