// The measuring kernels of the amx level (devices/probes.h).
#pragma once

#include "devices/probes.h"

namespace quench::amx {

void set_probes(Probes& probes);

}  // namespace quench::amx
