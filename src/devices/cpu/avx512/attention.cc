// Attention at the avx512 level. Limit in prefill: the dot products (12 heads on 2 KV heads of 128,
// 512-token chunks up to 2k, one core of a Zen 5): 77 % of the peak of f32 multiply-adds for f32
// pages, 67 % of that of VDPBF16PS for bf16 pages, 66 % for int8; softmax and the edges of the
// tiles are the rest. Limit in decode: reading the pages (the same at
// 8k tokens on a Zen 4, beside a plain read by as many threads): f32 75 % with one thread and 83 %
// with two, bf16 86 and 100 %; int8, 31 and 52 %, is limited by turning codes into bf16, which from
// a cache goes at 10.5 GB/s of codes for a core.
#include "devices/cpu/attention_inl.h"
#include "devices/cpu/avx512/avx512_ops.h"
#include "devices/cpu/avx512/vec.h"

namespace quench::avx512 {
namespace {

struct MultiplyF32 {
  using V = Vec;
  using A = __m512;
  using B = __m512;
  static constexpr int kTileVectors = 4;
  static B load(const uint32_t* b) { return _mm512_loadu_ps(b); }
  static A broadcast(const uint32_t* a) {
    return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(*a)));
  }
  static __m512 mac(__m512 acc, A a, B b) { return _mm512_fmadd_ps(a, b, acc); }
};

// VDPBF16PS: both products of a pair are added to the f32 accumulator; subnormal inputs and results
// count as zero.
struct MultiplyBf16 {
  using V = Vec;
  using A = __m512i;
  using B = __m512i;
  static constexpr int kTileVectors = 4;
  static B load(const uint32_t* b) { return _mm512_loadu_si512(b); }
  static A broadcast(const uint32_t* a) { return _mm512_set1_epi32(static_cast<int>(*a)); }
  static __m512 mac(__m512 acc, A a, B b) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

struct KernelF32 {
  using V = Vec;
  using M = MultiplyF32;
  static constexpr KvType kType = KvType::kF32;
  static constexpr bool kPairs = false;

  static void load_queries(const float* q, int64_t head_dim, uint32_t* to) {
    __builtin_memcpy(to, q, static_cast<size_t>(head_dim) * 4);
  }
  static void store_weights(const __m512* w, uint32_t* to) {
    for (int i = 0; i < 4; ++i) _mm512_storeu_ps(to + i * 16, w[i]);
  }
  static const uint32_t* panel(const std::byte* stored, int64_t rows, int64_t lanes,
                               uint32_t* buffer) {
    return padded_panel(stored, rows, lanes, buffer);
  }
};

struct KernelBf16 {
  using V = Vec;
  using M = MultiplyBf16;
  static constexpr KvType kType = KvType::kBf16;
  static constexpr bool kPairs = true;

  static void load_queries(const float* q, int64_t head_dim, uint32_t* to) {
    auto* halves = reinterpret_cast<uint16_t*>(to);
    for (int64_t i = 0; i < head_dim; ++i) halves[i] = kv_bf16(q[i]);
  }
  static void store_weights(const __m512* w, uint32_t* to) {
    _mm512_storeu_si512(to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(w[1], w[0])));
    _mm512_storeu_si512(to + 16, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(w[3], w[2])));
  }
  static const uint32_t* panel(const std::byte* stored, int64_t rows, int64_t lanes,
                               uint32_t* buffer) {
    return padded_panel(stored, rows / 2, lanes, buffer);
  }
};

// The bf16 of magnitudes up to 127, which are exact in it: low and high bytes.
struct MagnitudeBytes {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];
};
constexpr MagnitudeBytes magnitude_bytes() {
  MagnitudeBytes bytes = {};
  for (int i = 0; i < 128; ++i) {
    const auto bits = __builtin_bit_cast(uint32_t, static_cast<float>(i));
    bytes.low[i] = static_cast<uint8_t>(bits >> 16);
    bytes.high[i] = static_cast<uint8_t>(bits >> 24);
  }
  return bytes;
}
constexpr MagnitudeBytes kMagnitudes = magnitude_bytes();

// Codes are exact in bf16, so the product is the bf16 one; the scales meet the scores and weights.
struct KernelInt8 : KernelBf16 {
  static constexpr KvType kType = KvType::kInt8;

  // 64 codes at a time: both bytes of a magnitude from a table, the sign from the code (VPERMI2B:
  // a third of the instructions of going through 32-bit integers and floats).
  static const uint32_t* panel(const std::byte* stored, int64_t rows, int64_t lanes,
                               uint32_t* buffer) {
    const auto* from = reinterpret_cast<const int8_t*>(stored);
    const int64_t padded = padded_dim(lanes);
    const __m512i low_bytes[2] = {_mm512_load_si512(kMagnitudes.low),
                                  _mm512_load_si512(kMagnitudes.low + 64)};
    const __m512i high_bytes[2] = {_mm512_load_si512(kMagnitudes.high),
                                   _mm512_load_si512(kMagnitudes.high + 64)};
    // What bytes of two vectors are interleaved from are the halves of 16 bytes.
    const __m512i halves = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    for (int64_t u = 0; u < rows / 2; ++u) {
      uint32_t* to = buffer + u * padded;
      const int8_t* row = from + u * lanes * 2;
      for (int64_t i = 0; i < padded; i += 32) {
        const __mmask64 mask = _bzhi_u64(~0ULL, static_cast<uint32_t>(min64(64, (lanes - i) * 2)));
        const __m512i codes =
            _mm512_permutexvar_epi64(halves, _mm512_maskz_loadu_epi8(mask, row + i * 2));
        const __m512i magnitudes = _mm512_abs_epi8(codes);
        const __m512i low = _mm512_permutex2var_epi8(low_bytes[0], magnitudes, low_bytes[1]);
        const __m512i high = _mm512_permutex2var_epi8(high_bytes[0], magnitudes, high_bytes[1]);
        const __m512i top = _mm512_or_si512(
            high, _mm512_and_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80))));
        _mm512_storeu_si512(to + i, _mm512_unpacklo_epi8(low, top));
        if (i + 16 < padded) _mm512_storeu_si512(to + i + 16, _mm512_unpackhi_epi8(low, top));
      }
    }
    return buffer;
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

}  // namespace quench::avx512
