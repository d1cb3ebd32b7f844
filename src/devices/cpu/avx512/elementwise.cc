// SiLU times up, residual add, row gather. Limit: memory traffic of the operands. One core of a Zen
// 5, median share of a plain copy's bytes per second from memory: silu_mul 94 %, add 136 % (it
// reads more than it writes), gather 77 %; from L2 silu_mul 29 to 55 %, limited by the exponential.
#include "devices/cpu/elementwise_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void silu_mul(const OpContext& context, const SiluMulArgs& a) { silu_mul_all<Vec>(context, a); }
void add(const OpContext& context, const AddArgs& a) { add_all<Vec>(context, a); }
void gather_rows(const OpContext& context, const GatherRowsArgs& a) { gather_all(context, a); }

}  // namespace quench::avx512
