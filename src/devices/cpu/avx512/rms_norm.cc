// Root mean square norm. Limit: reading x twice and writing y once, from the level of cache where
// the row lies.
#include "devices/cpu/norm_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void rms_norm(const OpContext& context, const RmsNormArgs& a) { rms_norm_rows<Vec>(context, a); }

}  // namespace quench::avx512
