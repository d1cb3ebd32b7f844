// One step of the trellis encoder. Limit: two loads, a reordering, an addition and a minimum for
// eight windows.
#include "devices/cpu/trellis_step_inl.h"

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {

void trellis_step(const TrellisStepArgs& a) { step_trellis<Vec>(a); }

}  // namespace quench::avx2
