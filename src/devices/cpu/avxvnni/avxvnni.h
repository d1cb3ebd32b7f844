// What the avxvnni level has to offer.
#pragma once

#include "devices/cpu/isa.h"
#include "devices/cpu/strip_pack.h"

namespace quench::avxvnni {

// Grid formats (integers, tables), inputs as int8 per 128 columns.
extern const MatmulKernel grid_matmul;

}  // namespace quench::avxvnni
