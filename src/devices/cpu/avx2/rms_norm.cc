// Root mean square norm. Limit: reading x and writing y. Share not measured yet.
#include "devices/cpu/norm_inl.h"

#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {

void rms_norm(const OpContext& context, const RmsNormArgs& a) { rms_norm_rows<Vec>(context, a); }

}  // namespace quench::avx2
