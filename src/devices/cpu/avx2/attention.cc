// Attention at the avx2 level: f32 products whatever the pages hold, bf16 and int8 panels unpacked
// first. Limit in prefill: 256-bit multiply-adds, of whose peak it reaches 77 % (12 heads on 2 KV
// heads of 128, 512-token chunks up to 2k, one core of a Zen 5). Limit in decode: reading f32 pages
// (72 % of a plain read at 8k, 4 KB pages); unpacking the others.
#include "devices/cpu/attention_inl.h"
#include "devices/cpu/avx2/avx2_ops.h"
#include "devices/cpu/avx2/vec.h"

namespace quench::avx2 {
namespace {

struct MultiplyF32 {
  using V = Vec;
  using A = __m256;
  using B = __m256;
  static constexpr int kTileVectors = 2;
  static B load(const uint32_t* b) { return _mm256_loadu_ps(reinterpret_cast<const float*>(b)); }
  static A broadcast(const uint32_t* a) {
    return _mm256_broadcast_ss(reinterpret_cast<const float*>(a));
  }
  static __m256 mac(__m256 acc, A a, B b) { return _mm256_fmadd_ps(a, b, acc); }
};

struct KernelF32 {
  using V = Vec;
  using M = MultiplyF32;
  static constexpr KvType kType = KvType::kF32;
  static constexpr bool kPairs = false;

  static void load_queries(const float* q, int64_t head_dim, uint32_t* to) {
    __builtin_memcpy(to, q, static_cast<size_t>(head_dim) * 4);
  }
  static void store_weights(const __m256* w, uint32_t* to) {
    for (int i = 0; i < 8; ++i) _mm256_storeu_ps(reinterpret_cast<float*>(to) + i * 8, w[i]);
  }
  static const uint32_t* panel(const std::byte* stored, int64_t rows, int64_t lanes,
                               uint32_t* buffer) {
    return padded_panel(stored, rows, lanes, buffer);
  }
};

// Unpacks a panel of pairs into two f32 rows per unit: Unpack::pairs(from) gives eight lanes of
// each. The end of a row that is no whole vector is read through a padded copy.
template <class Unpack>
const uint32_t* unpack_panel(const std::byte* stored, int64_t rows, int64_t lanes,
                             uint32_t* buffer) {
  const int64_t padded = padded_dim(lanes);
  const int64_t unit_bytes = lanes * Unpack::kPairBytes;
  auto* to = reinterpret_cast<float*>(buffer);
  for (int64_t u = 0; u < rows / 2; ++u, to += 2 * padded) {
    const std::byte* from = stored + u * unit_bytes;
    auto unpack = [&](const std::byte* source, int64_t lane) {
      __m256 first;
      __m256 second;
      Unpack::pairs(source, &first, &second);
      _mm256_storeu_ps(to + lane, first);
      _mm256_storeu_ps(to + padded + lane, second);
    };
    int64_t lane = 0;
    for (; lane + 8 <= lanes; lane += 8) unpack(from + lane * Unpack::kPairBytes, lane);
    for (; lane < padded; lane += 8) {
      std::byte end[8 * Unpack::kPairBytes] = {};
      const int64_t left = max64(lanes - lane, 0) * Unpack::kPairBytes;
      __builtin_memcpy(end, from + lane * Unpack::kPairBytes, static_cast<size_t>(left));
      unpack(end, lane);
    }
  }
  return buffer;
}

struct UnpackBf16 {
  static constexpr int64_t kPairBytes = 4;
  static void pairs(const std::byte* from, __m256* first, __m256* second) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    *first = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    *second = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-65536)));
  }
};

struct UnpackInt8 {
  static constexpr int64_t kPairBytes = 2;
  static void pairs(const std::byte* from, __m256* first, __m256* second) {
    const __m256i both =
        _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    *first = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(both, 24), 24));
    *second = _mm256_cvtepi32_ps(_mm256_srai_epi32(both, 8));
  }
};

struct KernelBf16 : KernelF32 {
  static constexpr KvType kType = KvType::kBf16;
  static const uint32_t* panel(const std::byte* stored, int64_t rows, int64_t lanes,
                               uint32_t* buffer) {
    return unpack_panel<UnpackBf16>(stored, rows, lanes, buffer);
  }
};

struct KernelInt8 : KernelF32 {
  static constexpr KvType kType = KvType::kInt8;
  static const uint32_t* panel(const std::byte* stored, int64_t rows, int64_t lanes,
                               uint32_t* buffer) {
    return unpack_panel<UnpackInt8>(stored, rows, lanes, buffer);
  }
};

}  // namespace

void attention(const OpContext& context, const AttentionArgs& a) {
  switch (a.pages.type) {
    case KvType::kF32:
      return attention_of<KernelF32>(context, a);
    case KvType::kBf16:
      return attention_of<KernelBf16>(context, a);
    case KvType::kInt8:
      return attention_of<KernelInt8>(context, a);
  }
}

}  // namespace quench::avx2
