// SiLU times up, residual add, row gather. Limit: memory traffic of the operands. Share not
// measured yet.
#include "devices/cpu/elementwise_inl.h"

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {

void silu_mul(const OpContext& context, const SiluMulArgs& a) { silu_mul_all<Vec>(context, a); }
void add(const OpContext& context, const AddArgs& a) { add_all<Vec>(context, a); }
void gather_rows(const OpContext& context, const GatherRowsArgs& a) { gather_all(context, a); }

}  // namespace quench::avx2
