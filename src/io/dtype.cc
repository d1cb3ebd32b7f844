#include "io/dtype.h"

#include <array>
#include <bit>
#include <limits>

#include "base/bytes.h"
#include "base/check.h"
#include "base/float16.h"

namespace quench {
namespace {

struct DtypeRow {
  const char* name;
  int bits;
};

// In the order of the enumeration.
constexpr DtypeRow kRows[kNumDtypes] = {
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64}};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// 2^exponent for the exponents of normal floats.
constexpr float power_of_two(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

// Sign, exponent, mantissa; subnormals included; no special codes.
constexpr float small_float(uint32_t code, int exponent_bits, int mantissa_bits, int bias) {
  const uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
  const uint32_t exponent = (code >> mantissa_bits) & ((1u << exponent_bits) - 1);
  const bool negative = ((code >> (exponent_bits + mantissa_bits)) & 1u) != 0;
  const uint32_t significand = exponent == 0 ? mantissa : mantissa + (1u << mantissa_bits);
  const int scale = static_cast<int>(exponent == 0 ? 1 : exponent) - bias - mantissa_bits;
  const float magnitude = static_cast<float>(significand) * power_of_two(scale);
  return negative ? -magnitude : magnitude;
}

constexpr float f8_e4m3(uint32_t code) {
  return (code & 0x7f) == 0x7f ? kNan : small_float(code, 4, 3, 7);
}
constexpr float f8_e5m2(uint32_t code) {
  if ((code & 0x7f) == 0x7c) return code == 0x7c ? kInfinity : -kInfinity;
  return (code & 0x7f) > 0x7c ? kNan : small_float(code, 5, 2, 15);
}
constexpr float f8_e4m3fnuz(uint32_t code) {
  return code == 0x80 ? kNan : small_float(code, 4, 3, 8);
}
constexpr float f8_e5m2fnuz(uint32_t code) {
  return code == 0x80 ? kNan : small_float(code, 5, 2, 16);
}
constexpr float f8_e8m0(uint32_t code) {
  if (code == 0) return std::bit_cast<float>(0x00400000u);  // 2^-127 is subnormal in float32
  return code == 255 ? kNan : power_of_two(static_cast<int>(code) - 127);
}

template <float (*decode)(uint32_t)>
constexpr std::array<float, 256> make_table() {
  std::array<float, 256> table{};
  for (uint32_t code = 0; code < 256; ++code) table[code] = decode(code);
  return table;
}

template <float (*decode)(uint32_t)>
void decode_bytes(const std::byte* data, std::span<float> out) {
  static constexpr std::array<float, 256> kTable = make_table<decode>();
  for (size_t i = 0; i < out.size(); ++i) out[i] = kTable[static_cast<uint8_t>(data[i])];
}

template <class T, class Convert>
void decode_each(const std::byte* data, std::span<float> out, Convert convert) {
  for (size_t i = 0; i < out.size(); ++i) out[i] = convert(load<T>(data + i * sizeof(T)));
}

template <class T>
void decode_numbers(const std::byte* data, std::span<float> out) {
  decode_each<T>(data, out, [](T value) { return static_cast<float>(value); });
}

// A cast of an out-of-range double is undefined behaviour in the language, so the edge is spelled
// out: values from half a unit above the largest float32 round to infinity.
float f64_to_f32(double value) {
  constexpr double kFirstInfinite = 0x1.ffffffp127;
  if (value >= kFirstInfinite) return kInfinity;
  if (value <= -kFirstInfinite) return -kInfinity;
  return static_cast<float>(value);
}

void decode_f4(std::span<const std::byte> data, int64_t first, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const auto element = static_cast<size_t>(first) + i;
    const auto pair = static_cast<uint32_t>(data[element / 2]);
    out[i] = small_float(element % 2 == 0 ? pair & 15u : pair >> 4, 2, 1, 1);
  }
}

}  // namespace

const char* dtype_name(Dtype dtype) { return kRows[static_cast<int>(dtype)].name; }
int dtype_bits(Dtype dtype) { return kRows[static_cast<int>(dtype)].bits; }

std::optional<Dtype> dtype_from_name(std::string_view name) {
  for (int i = 0; i < kNumDtypes; ++i) {
    if (name == kRows[i].name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}

std::optional<int64_t> num_elements(std::span<const int64_t> shape) {
  std::optional<int64_t> product = 1;
  for (const int64_t dim : shape) {
    product = checked_mul(*product, dim);
    if (!product) return std::nullopt;
  }
  return product;
}

std::optional<int64_t> tensor_bytes(Dtype dtype, std::span<const int64_t> shape) {
  const std::optional<int64_t> count = num_elements(shape);
  if (!count) return std::nullopt;
  const std::optional<int64_t> bits = checked_mul(*count, dtype_bits(dtype));
  if (!bits || *bits % 8 != 0) return std::nullopt;
  return *bits / 8;
}

Result<void> decode_to_f32(Dtype dtype, std::span<const std::byte> data, int64_t first,
                           std::span<float> out) {
  const int bits = dtype_bits(dtype);
  const auto held = static_cast<int64_t>(data.size()) * 8 / bits;
  QUENCH_CHECK(first >= 0 && first <= held && static_cast<int64_t>(out.size()) <= held - first,
               "elements [{}, {}) of {} {}", first, first + static_cast<int64_t>(out.size()), held,
               dtype_name(dtype));
  const std::byte* p = data.data() + first * bits / 8;  // not used by F4 and F6
  switch (dtype) {
    case Dtype::kBool:
      decode_each<uint8_t>(p, out, [](uint8_t value) { return value != 0 ? 1.0f : 0.0f; });
      return {};
    case Dtype::kF4:
      decode_f4(data, first, out);
      return {};
    case Dtype::kU8:
      decode_numbers<uint8_t>(p, out);
      return {};
    case Dtype::kI8:
      decode_numbers<int8_t>(p, out);
      return {};
    case Dtype::kF8E5M2:
      decode_bytes<f8_e5m2>(p, out);
      return {};
    case Dtype::kF8E4M3:
      decode_bytes<f8_e4m3>(p, out);
      return {};
    case Dtype::kF8E8M0:
      decode_bytes<f8_e8m0>(p, out);
      return {};
    case Dtype::kF8E4M3Fnuz:
      decode_bytes<f8_e4m3fnuz>(p, out);
      return {};
    case Dtype::kF8E5M2Fnuz:
      decode_bytes<f8_e5m2fnuz>(p, out);
      return {};
    case Dtype::kI16:
      decode_numbers<int16_t>(p, out);
      return {};
    case Dtype::kU16:
      decode_numbers<uint16_t>(p, out);
      return {};
    case Dtype::kF16:
      decode_each<uint16_t>(p, out, f16_to_f32);
      return {};
    case Dtype::kBF16:
      decode_each<uint16_t>(p, out, bf16_to_f32);
      return {};
    case Dtype::kI32:
      decode_numbers<int32_t>(p, out);
      return {};
    case Dtype::kU32:
      decode_numbers<uint32_t>(p, out);
      return {};
    case Dtype::kF32:
      decode_numbers<float>(p, out);
      return {};
    case Dtype::kF64:
      decode_each<double>(p, out, f64_to_f32);
      return {};
    case Dtype::kI64:
      decode_numbers<int64_t>(p, out);
      return {};
    case Dtype::kU64:
      decode_numbers<uint64_t>(p, out);
      return {};
    case Dtype::kF6E2M3:
    case Dtype::kF6E3M2:
    case Dtype::kC64:
      break;
  }
  return fail(ErrorCode::kUnsupported,
              "Elements of dtype {} cannot be read as float32: expected a real dtype of 4, 8, 16, "
              "32 or 64 bits.",
              dtype_name(dtype));
}

}  // namespace quench
