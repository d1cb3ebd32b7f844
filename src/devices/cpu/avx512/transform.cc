// Rotation and permutation of a matmul's input. Limit: log2(k) passes over a row that lies in L1.
#include "devices/cpu/transform_inl.h"

#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {

void transform(const OpContext& context, const TransformArgs& a) {
  transform_rows<Vec>(context, a);
}

}  // namespace quench::avx512
