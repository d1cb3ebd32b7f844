// The avx2 level: 256-bit vectors with FMA. Overrides the rows it does better than the level below.
#include "devices/cpu/isa.h"

namespace quench {

void apply_avx2(CpuTable&) {}

}  // namespace quench
