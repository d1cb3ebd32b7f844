// The measuring kernels of the avxvnni level (devices/probes.h).
#pragma once

#include "devices/probes.h"

namespace quench::avxvnni {

void set_probes(Probes& probes);

}  // namespace quench::avxvnni
