// e4m3 at the avx512 level: codes to pairs of bf16 by tables, which is exact, and VDPBF16PS on
// inputs rounded to bf16 once per call.
#include "devices/cpu/avx512/avx512.h"
#include "devices/cpu/avx512/vec.h"
#include "devices/cpu/bf16_input_inl.h"
#include "devices/cpu/fp8_matmul_inl.h"

namespace quench::avx512 {
namespace {

// The bytes of the bf16 that are 2^-8 times the values of codes without their sign, and what brings
// 4 columns of 16 codes into the order in which bytes of two vectors interleave: per 128 bits four
// outputs, of two columns and of the next two.
struct Fp8Tables {
  alignas(64) uint8_t low[128];
  alignas(64) uint8_t high[128];
  alignas(64) uint8_t order[64];
};
constexpr Fp8Tables fp8_tables() {
  Fp8Tables tables = {};
  for (int code = 0; code < 128; ++code) {
    const int exponent = code >> 3;
    // 2^-17 times a mantissa with its leading bit, if it has one, doubled for every exponent.
    auto value = static_cast<float>(exponent > 0 ? 8 + code % 8 : code % 8) / 131072.0f;
    for (int i = 1; i < exponent; ++i) value *= 2.0f;
    const auto bits = __builtin_bit_cast(uint32_t, value);
    tables.low[code] = static_cast<uint8_t>(bits >> 16);
    tables.high[code] = static_cast<uint8_t>(bits >> 24);
  }
  for (int i = 0; i < 64; ++i) {
    const int column = i % 16 / 8 * 2 + i % 2;
    const int output = i / 16 * 4 + i % 8 / 2;
    tables.order[i] = static_cast<uint8_t>(column * 16 + output);
  }
  return tables;
}
constexpr Fp8Tables kTables = fp8_tables();

struct Bf16Fp8 {
  using X = uint16_t;
  using W = __m512i;  // the first column in the low half of a lane
  static constexpr int64_t kStepColumns = 2;
  static constexpr int64_t kUnpackColumns = 4;
  // Both bytes of a magnitude from a table, the sign from the code.
  static void unpack(const std::byte* at, W* w) {
    const __m512i codes =
        _mm512_permutexvar_epi8(_mm512_load_si512(kTables.order), _mm512_loadu_si512(at));
    const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(kTables.low), codes,
                                                 _mm512_load_si512(kTables.low + 64));
    const __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(kTables.high), codes,
                                                  _mm512_load_si512(kTables.high + 64));
    // high | codes & 0x80
    const __m512i top =
        _mm512_ternarylogic_epi32(high, codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
    w[0] = _mm512_unpacklo_epi8(low, top);
    w[1] = _mm512_unpackhi_epi8(low, top);
  }
  static W load(const std::byte* at) { return _mm512_load_si512(at); }
  static void store(std::byte* at, W w) { _mm512_store_si512(at, w); }
  static __m512 step(__m512 sum, W w, const uint16_t* x) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w),
                            reinterpret_cast<__m512bh>(Vec::spread32(x)));
  }
};

void run(const OpContext& context, const MatmulArgs& a) {
  fp8_run<Vec, Bf16Fp8>(context, a, round_input(context, a));
}

}  // namespace

const MatmulKernel fp8_matmul = {"avx512_fp8",     fp8_strips_accept, fp8_strips_bytes,
                                 pack_fp8_strips,  gather_fp8_strips, run,
                                 bf16_input_bytes, Arithmetic::kBf16};

}  // namespace quench::avx512
