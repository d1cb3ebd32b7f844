// Rotary tables and rotation. Limit: rope reads and writes x once; the table is computed, once per
// step.
#include "devices/cpu/rope_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void rope_table(const OpContext& context, const RopeTableArgs& a) {
  rope_table_rows<Vec>(context, a);
}
void rope(const OpContext& context, const RopeArgs& a) { rope_rows<Vec>(context, a); }

}  // namespace quench::avx512
