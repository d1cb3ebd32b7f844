// The vectors of the amx level: those of avx512, as a type of their own, so that the algorithms can
// be told apart.
#pragma once

#include <immintrin.h>

#include "devices/cpu/vec512_inl.h"

namespace quench {
namespace {

struct Vec : Vec512 {};

}  // namespace
}  // namespace quench
