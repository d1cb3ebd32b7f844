// Inputs rounded to bf16, half to even (VCVTNE2PS2BF16), for the levels whose bf16 products take
// bf16 on both sides.
#pragma once

#include "devices/cpu/strip_inl.h"
#include "devices/cpu/vec512_inl.h"

namespace quench {
namespace {

// [rows, k], rounded up to a cache line in all.
inline int64_t bf16_input_bytes(int64_t rows, int64_t k) { return round_to_line(rows * k * 2); }

// The rounded [x_rows, k] in the team's scratch memory; every worker does its part, and waits for
// the others.
inline const uint16_t* round_input(const OpContext& context, const MatmulArgs& a) {
  auto* x = reinterpret_cast<uint16_t*>(context.scratch);
  const int64_t count = a.x_rows * a.weights[0]->k;
  const Range range = worker_range(context.worker, count, 32);
  for (int64_t i = range.begin; i < range.end; i += 32) {
    if (i + 32 <= range.end) {
      const __m512bh pair =
          _mm512_cvtne2ps_pbh(_mm512_loadu_ps(a.x + i + 16), _mm512_loadu_ps(a.x + i));
      Vec512::store_int(x + i, reinterpret_cast<__m512i>(pair));
      continue;
    }
    const auto mask = static_cast<__mmask16>((1u << (range.end - i) % 16) - 1);
    const bool two = range.end - i >= 16;
    const __m512 low = two ? _mm512_loadu_ps(a.x + i) : _mm512_maskz_loadu_ps(mask, a.x + i);
    const __m512 high = two ? _mm512_maskz_loadu_ps(mask, a.x + i + 16) : _mm512_setzero_ps();
    const __m512bh pair = _mm512_cvtne2ps_pbh(high, low);
    _mm512_mask_storeu_epi16(x + i, (__mmask32{1} << (range.end - i)) - 1,
                             reinterpret_cast<__m512i>(pair));
  }
  context.worker.wait();
  return x;
}

}  // namespace
}  // namespace quench
