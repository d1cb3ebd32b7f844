// One step of the trellis encoder. Limit: two cycles for 16 windows on a Zen 4, whose 512-bit
// operations take two slots. Measured there, spreading the metrics included: 850 cycles per step of
// 256 such vectors, 60 % of it.
#include "devices/cpu/trellis_step_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void trellis_step(const TrellisStepArgs& a) { step_trellis<Vec>(a); }

}  // namespace quench::avx512
