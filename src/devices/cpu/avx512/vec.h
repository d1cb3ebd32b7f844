// The vectors of the avx512 level.
#pragma once

#include <immintrin.h>

#include "devices/cpu/vec512_inl.h"

namespace quench {
namespace {

using Vec = Vec512;

}  // namespace
}  // namespace quench
