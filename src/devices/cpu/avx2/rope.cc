// Rotary tables and rotation. Limit: rope reads and writes x once; 41 % of a plain copy in L2, 32 %
// in memory (one core of a Zen 5). The table, once per step, takes 60 ns per token of 128
// dimensions.
#include "devices/cpu/rope_inl.h"

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {

void rope_table(const OpContext& context, const RopeTableArgs& a) {
  rope_table_rows<Vec>(context, a);
}
void rope(const OpContext& context, const RopeArgs& a) { rope_rows<Vec>(context, a); }

}  // namespace quench::avx2
