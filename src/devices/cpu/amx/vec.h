// The vectors of the amx level: those of avx512, as a type of their own, so that the algorithms can
// be told apart.
#pragma once

#include <immintrin.h>

#include "devices/cpu/vec512_inl.h"

namespace quench {
namespace {

struct Vec : Vec512 {
  static constexpr int kTwoStripTokens = 0;
  static constexpr int64_t many_tokens(int64_t /*unit*/) { return 5; }  // tiles pay early
};

}  // namespace
}  // namespace quench
