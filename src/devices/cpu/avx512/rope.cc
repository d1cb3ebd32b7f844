// Rotary tables and rotation. Limit: rope reads and writes x once; 44 % of a plain copy in L2 and
// in memory (one core of a Zen 5). The table, once per step, takes 30 ns per token of 128
// dimensions.
#include "devices/cpu/rope_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void rope_table(const OpContext& context, const RopeTableArgs& a) {
  rope_table_rows<Vec>(context, a);
}
void rope(const OpContext& context, const RopeArgs& a) { rope_rows<Vec>(context, a); }

}  // namespace quench::avx512
