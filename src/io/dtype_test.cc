#include "io/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace quench {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <class T>
std::vector<float> decode(Dtype dtype, const std::vector<T>& values) {
  std::vector<float> out(values.size() * sizeof(T) * 8 / static_cast<size_t>(dtype_bits(dtype)));
  EXPECT_TRUE(decode_to_f32(dtype, std::as_bytes(std::span(values)), 0, out));
  return out;
}

std::vector<float> decode_all_codes(Dtype dtype) {
  std::vector<uint8_t> codes(256);
  for (int i = 0; i < 256; ++i) codes[i] = static_cast<uint8_t>(i);
  return decode(dtype, codes);
}

TEST(Dtype, NamesAreThoseOfTheFormat) {
  const char* names[] = {"BOOL",    "F4",      "F6_E2M3", "F6_E3M2",     "U8",          "I8",
                         "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",
                         "U16",     "F16",     "BF16",    "I32",         "U32",         "F32",
                         "C64",     "F64",     "I64",     "U64"};
  ASSERT_EQ(std::size(names), static_cast<size_t>(kNumDtypes));
  for (const char* name : names) {
    const auto dtype = dtype_from_name(name);
    ASSERT_TRUE(dtype) << name;
    EXPECT_STREQ(dtype_name(*dtype), name);
  }
  EXPECT_FALSE(dtype_from_name("bf16"));
  EXPECT_FALSE(dtype_from_name(""));
  EXPECT_EQ(dtype_bits(Dtype::kF4), 4);
  EXPECT_EQ(dtype_bits(Dtype::kF6E3M2), 6);
  EXPECT_EQ(dtype_bits(Dtype::kBool), 8);
  EXPECT_EQ(dtype_bits(Dtype::kBF16), 16);
  EXPECT_EQ(dtype_bits(Dtype::kC64), 64);
}

TEST(Dtype, TensorBytes) {
  EXPECT_EQ(tensor_bytes(Dtype::kBF16, std::vector<int64_t>{3, 5}), 30);
  EXPECT_EQ(tensor_bytes(Dtype::kF32, {}), 4);
  EXPECT_EQ(tensor_bytes(Dtype::kF32, std::vector<int64_t>{7, 0, 2}), 0);
  EXPECT_EQ(tensor_bytes(Dtype::kF4, std::vector<int64_t>{3, 2}), 3);
  EXPECT_EQ(tensor_bytes(Dtype::kF4, std::vector<int64_t>{3}), std::nullopt);
  EXPECT_EQ(tensor_bytes(Dtype::kF6E2M3, std::vector<int64_t>{4}), 3);
  EXPECT_EQ(tensor_bytes(Dtype::kU8, std::vector<int64_t>{-1}), std::nullopt);
  const int64_t big = int64_t{1} << 32;
  EXPECT_EQ(tensor_bytes(Dtype::kU8, std::vector<int64_t>{big, big}), std::nullopt);
  EXPECT_EQ(tensor_bytes(Dtype::kU8, std::vector<int64_t>{big, big / 2 - 1}),
            std::nullopt);  // bits
}

TEST(Dtype, FloatsOfOneByte) {
  const auto e4m3 = decode_all_codes(Dtype::kF8E4M3);
  EXPECT_EQ(e4m3[0x00], 0.0f);
  EXPECT_TRUE(std::signbit(e4m3[0x80]));
  EXPECT_EQ(e4m3[0x01], 0x1p-9f);
  EXPECT_EQ(e4m3[0x08], 0x1p-6f);
  EXPECT_EQ(e4m3[0x38], 1.0f);
  EXPECT_EQ(e4m3[0x7e], 448.0f);
  EXPECT_EQ(e4m3[0xfe], -448.0f);
  EXPECT_TRUE(std::isnan(e4m3[0x7f]) && std::isnan(e4m3[0xff]));

  const auto e5m2 = decode_all_codes(Dtype::kF8E5M2);
  EXPECT_EQ(e5m2[0x01], 0x1p-16f);
  EXPECT_EQ(e5m2[0x3c], 1.0f);
  EXPECT_EQ(e5m2[0x7b], 57344.0f);
  EXPECT_EQ(e5m2[0x7c], kInf);
  EXPECT_EQ(e5m2[0xfc], -kInf);
  for (int code : {0x7d, 0x7e, 0x7f, 0xfd, 0xfe, 0xff}) EXPECT_TRUE(std::isnan(e5m2[code]));

  const auto e4m3fnuz = decode_all_codes(Dtype::kF8E4M3Fnuz);
  EXPECT_EQ(e4m3fnuz[0x01], 0x1p-10f);
  EXPECT_EQ(e4m3fnuz[0x40], 1.0f);
  EXPECT_EQ(e4m3fnuz[0x7f], 240.0f);
  EXPECT_TRUE(std::isnan(e4m3fnuz[0x80]));

  const auto e5m2fnuz = decode_all_codes(Dtype::kF8E5M2Fnuz);
  EXPECT_EQ(e5m2fnuz[0x01], 0x1p-17f);
  EXPECT_EQ(e5m2fnuz[0x40], 1.0f);
  EXPECT_EQ(e5m2fnuz[0x7f], 57344.0f);
  EXPECT_TRUE(std::isnan(e5m2fnuz[0x80]));

  const auto e8m0 = decode_all_codes(Dtype::kF8E8M0);
  EXPECT_EQ(e8m0[0], 0x1p-127f);
  EXPECT_EQ(e8m0[127], 1.0f);
  EXPECT_EQ(e8m0[254], 0x1p127f);
  EXPECT_TRUE(std::isnan(e8m0[255]));
}

TEST(Dtype, FourBitFloatsLowNibbleFirst) {
  const std::vector<uint8_t> data = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
  const std::vector<float> expected = {0,     0.5f,  1,     1.5f,  2,     3,     4,     6,
                                       -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  EXPECT_EQ(decode(Dtype::kF4, data), expected);
  std::vector<float> middle(3);
  ASSERT_TRUE(decode_to_f32(Dtype::kF4, std::as_bytes(std::span(data)), 5, middle));
  EXPECT_EQ(middle, (std::vector<float>{3, 4, 6}));
}

TEST(Dtype, IntegersAndWideTypes) {
  EXPECT_EQ(decode(Dtype::kBool, std::vector<uint8_t>{0, 1, 2, 255}),
            (std::vector<float>{0, 1, 1, 1}));
  EXPECT_EQ(decode(Dtype::kU8, std::vector<uint8_t>{0, 255}), (std::vector<float>{0, 255}));
  EXPECT_EQ(decode(Dtype::kI8, std::vector<int8_t>{-128, 127}), (std::vector<float>{-128, 127}));
  EXPECT_EQ(decode(Dtype::kI16, std::vector<int16_t>{-32768}), (std::vector<float>{-32768}));
  EXPECT_EQ(decode(Dtype::kU16, std::vector<uint16_t>{65535}), (std::vector<float>{65535}));
  // 2^24 + 1 and + 3 are ties: to the even mantissa.
  EXPECT_EQ(decode(Dtype::kI32, std::vector<int32_t>{16777217, 16777219, -16777217}),
            (std::vector<float>{16777216, 16777220, -16777216}));
  EXPECT_EQ(decode(Dtype::kU32, std::vector<uint32_t>{4294967295u}),
            (std::vector<float>{4294967296.0f}));
  EXPECT_EQ(decode(Dtype::kI64, std::vector<int64_t>{std::numeric_limits<int64_t>::min()}),
            (std::vector<float>{-0x1p63f}));
  EXPECT_EQ(decode(Dtype::kU64, std::vector<uint64_t>{~uint64_t{0}}),
            (std::vector<float>{0x1p64f}));
  EXPECT_EQ(decode(Dtype::kF16, std::vector<uint16_t>{0x3c00, 0xfc00}),
            (std::vector<float>{1, -kInf}));
  EXPECT_EQ(decode(Dtype::kBF16, std::vector<uint16_t>{0x3f80, 0xc040}),
            (std::vector<float>{1, -3}));
  EXPECT_EQ(decode(Dtype::kF64, std::vector<double>{0.1, 1e39, -1e39, 0x1.fffffefffffffp127,
                                                    0x1.ffffffp127, 1e-60}),
            (std::vector<float>{0.1f, kInf, -kInf, std::numeric_limits<float>::max(), kInf, 0}));
  EXPECT_TRUE(std::isnan(decode(Dtype::kF64, std::vector<double>{std::nan("")})[0]));
}

TEST(Dtype, UnalignedRangeInTheMiddle) {
  std::vector<std::byte> bytes(1 + 4 * sizeof(float));
  const float values[4] = {1, 2, 3, 4};
  std::memcpy(bytes.data() + 1, values, sizeof(values));
  std::vector<float> out(2);
  ASSERT_TRUE(decode_to_f32(Dtype::kF32, std::span(bytes).subspan(1), 1, out));
  EXPECT_EQ(out, (std::vector<float>{2, 3}));
}

TEST(Dtype, RefusesWhatHasNoFloatValue) {
  const std::vector<std::byte> bytes(24);
  std::vector<float> out(1);
  for (const Dtype dtype : {Dtype::kC64, Dtype::kF6E2M3, Dtype::kF6E3M2}) {
    const auto result = decode_to_f32(dtype, bytes, 0, out);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(result.error().message.find(dtype_name(dtype)), std::string::npos);
  }
}

}  // namespace
}  // namespace quench
