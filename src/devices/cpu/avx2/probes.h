// The measuring kernels of the avx2 level (devices/probes.h).
#pragma once

#include "devices/probes.h"

namespace quench::avx2 {

void set_probes(Probes& probes);

}  // namespace quench::avx2
