// Copies each token's keys and values into its page. Limit: the scattered stores of the transposed
// keys; microseconds per step, see kv_inl.h.
#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/kv_inl.h"

namespace quench::avx512 {

void kv_store(const OpContext& context, const KvStoreArgs& a) { kv_store_blocks(context, a); }

}  // namespace quench::avx512
