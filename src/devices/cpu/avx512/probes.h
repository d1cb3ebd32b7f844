// The measuring kernels of the avx512 level (devices/probes.h).
#pragma once

#include "devices/probes.h"

namespace quench::avx512 {

void set_probes(Probes& probes);

}  // namespace quench::avx512
