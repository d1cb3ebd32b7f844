// Rotary tables and rotation. Limit: rope reads and writes x once; the table is made once per step.
// Share not measured yet.
#include "devices/cpu/rope_inl.h"

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {

void rope_table(const OpContext& context, const RopeTableArgs& a) {
  rope_table_rows<Vec>(context, a);
}
void rope(const OpContext& context, const RopeArgs& a) { rope_rows<Vec>(context, a); }

}  // namespace quench::avx2
