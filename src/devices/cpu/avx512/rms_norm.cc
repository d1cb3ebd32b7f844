// Root mean square norm. Limit: reading x and writing y. One core of a Zen 5: 74 % of a plain copy
// from memory (rows of 1536 and of 128), 33 to 49 % from L2, where the sum must end before scaling.
#include "devices/cpu/norm_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void rms_norm(const OpContext& context, const RmsNormArgs& a) { rms_norm_rows<Vec>(context, a); }

}  // namespace quench::avx512
