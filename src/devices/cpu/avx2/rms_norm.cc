// Root mean square norm. Limit: reading x and writing y. One core of a Zen 5: 95 % of a plain copy
// from memory (rows of 1536 and of 128), 30 % from L2, where the sum must end before scaling.
#include "devices/cpu/norm_inl.h"

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {

void rms_norm(const OpContext& context, const RmsNormArgs& a) { rms_norm_rows<Vec>(context, a); }

}  // namespace quench::avx2
