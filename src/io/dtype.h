// The element types of the safetensors format (all 22 names of its 0.8 release), their sizes, and
// their values as float32. Pure functions over the caller's memory; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"

namespace quench {

enum class Dtype : uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};
constexpr int kNumDtypes = 22;

// The format's spelling: "BF16", "F8_E4M3".
const char* dtype_name(Dtype dtype);
std::optional<Dtype> dtype_from_name(std::string_view name);
// 1 byte for BOOL, 4 bits for F4, 6 for F6, 64 for C64 (two float32).
int dtype_bits(Dtype dtype);

// Bytes of a tensor. Nothing when the product does not fit 63 bits, a dimension is negative, or
// elements of less than a byte do not fill the last byte (which the format forbids).
std::optional<int64_t> tensor_bytes(Dtype dtype, std::span<const int64_t> shape);
// Product of the dimensions (1 for a scalar), or nothing when it does not fit 63 bits.
std::optional<int64_t> num_elements(std::span<const int64_t> shape);

// Writes elements [first, first + out.size()) of `data` to `out` as float32. `data` needs no
// alignment. kUnsupported for C64 (no real value) and F6 (the format does not say how six-bit
// elements are packed). A range outside `data` is a bug of the caller. The rules:
//   BOOL                 0 is 0, any other byte is 1
//   U8 I8 I16 U16 F16 BF16 F32 F8_* F4        exact; NaN stays NaN
//   I32 U32 I64 U64 F64  to nearest, ties to even; F64 beyond float32 becomes infinity
//   F8_E4M3              bias 7, no infinity, codes 0x7f and 0xff are NaN, largest 448
//   F8_E5M2              bias 15, infinity and NaN as in IEEE 754, largest 57344
//   F8_E4M3FNUZ          bias 8, no infinity, no -0, code 0x80 is NaN, largest 240
//   F8_E5M2FNUZ          bias 16, no infinity, no -0, code 0x80 is NaN, largest 57344
//   F8_E8M0              2^(code - 127), code 255 is NaN
//   F4 (E2M1)            0 0.5 1 1.5 2 3 4 6 and their negatives; the first element of a byte is
//                        in its low four bits
Result<void> decode_to_f32(Dtype dtype, std::span<const std::byte> data, int64_t first,
                           std::span<float> out);

}  // namespace quench
