// The avxvnni level: 256-bit vectors with the byte dot product. Overrides the rows it does better
// than the level below.
#include "devices/cpu/avxvnni/avxvnni.h"
#include "devices/cpu/avxvnni/probes.h"

namespace quench {

void apply_avxvnni(CpuTable& table) {
  prefer_kernel(table, avxvnni::grid_matmul);
  avxvnni::set_probes(table.probes);
}

}  // namespace quench
