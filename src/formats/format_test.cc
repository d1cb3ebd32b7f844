#include "formats/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "formats/fp8.h"
#include "formats/quantized_tensor.h"

namespace quench {
namespace {

std::vector<float> random_matrix(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& value : x) value = normal(generator);
  return x;
}

double relative_error(const std::vector<float>& x, const std::vector<float>& y) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += (x[i] - y[i]) * (x[i] - y[i]);
    norm += x[i] * x[i];
  }
  return std::sqrt(error / norm);
}

std::vector<float> round_trip(const Format& format, const std::vector<float>& x, int64_t rows,
                              int64_t cols) {
  QuantizedTensor tensor(format, rows, cols);
  format.encode_rows(x.data(), rows, cols, tensor.planes());
  std::vector<float> y(x.size());
  format.decode_rows(std::as_const(tensor).planes(), rows, cols, y.data());
  return y;
}

// Gaussian weights through every registered format: the error is bounded by what its width allows,
// more bits are never worse, and encoding what was decoded changes nothing.
TEST(Format, RoundTripErrorFollowsTheBits) {
  const int64_t rows = 128;
  const int64_t cols = 256;
  const std::vector<float> x = random_matrix(rows * cols, 1);
  for (const Format& format : all_formats()) {
    ASSERT_TRUE(format.fits(rows, cols)) << format.name;
    if (format.encode == nullptr) continue;
    const std::vector<float> y = round_trip(format, x, rows, cols);
    const double error = relative_error(x, y);
    // A uniform quantizer over +-4 sigma has a step of 8/2^bits sigma, and step/sqrt(12) error;
    // bfloat16 has 9 significant bits whatever the range, e4m3 has 4.
    const int bits = format.name.starts_with("fp8") ? 5 : std::min(format.bits, 10);
    EXPECT_LT(error, 8.0 / std::exp2(bits) / std::sqrt(12.0) * 1.05) << format.name;
    if (format.name == "f32") {
      EXPECT_EQ(error, 0.0);
    }
    // The range of formats with a zero or a minimum shrinks when the top code is not used.
    if (format.zero_point || format.name.ends_with("_1")) continue;
    if (format.trellis != nullptr) continue;  // its scale is that of the values it is given
    if (format.tile_cols == 256) continue;    // nor is the largest small scale of a block
    EXPECT_EQ(round_trip(format, y, rows, cols), y)
        << format.name << ": encoding is not idempotent";
  }
}

TEST(Format, ZeroRowsAndConstantRowsAreExact) {
  for (const Format& format : all_formats()) {
    if (format.trellis != nullptr) continue;  // no level of its is 0
    if (format.encode == nullptr) continue;
    const int64_t rows = 2 * format.tile_rows;
    const std::vector<float> zeros(static_cast<size_t>(rows * 256), 0.0f);
    const std::vector<float> ones(static_cast<size_t>(rows * 256), 1.0f);
    EXPECT_EQ(round_trip(format, zeros, rows, 256), zeros) << format.name;
    // A bf16 scale is off by up to 2^-8.
    EXPECT_LT(relative_error(ones, round_trip(format, ones, rows, 256)), 0x1p-8) << format.name;
  }
}

TEST(Format, BytesAreWhatTheLayoutSays) {
  EXPECT_EQ(require_format("bf16").value()->matrix_bytes(3, 5), 30);
  EXPECT_EQ(require_format("int4").value()->matrix_bytes(16, 256), 16 * 2 * (64 + 2));
  EXPECT_EQ(require_format("int3_g64").value()->matrix_bytes(1, 64), 24 + 2);
  EXPECT_EQ(require_format("int4_g32_zp").value()->matrix_bytes(1, 32), 16 + 2 + 1);
  EXPECT_EQ(require_format("int8").value()->matrix_bytes(2, 100), 200 + 8);
  EXPECT_DOUBLE_EQ(require_format("int4_g128").value()->bits_per_weight(1, 128), 4.125);
  EXPECT_FALSE(require_format("int4_g128").value()->fits(1, 96));
}

TEST(Format, CodesAreTheDocumentedBitStream) {
  const Format& format = *require_format("int3_g32").value();
  QuantizedTensor tensor(format, 1, 32);
  std::vector<float> x(32);
  for (int i = 0; i < 32; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i % 8 - 4);
  format.encode_rows(x.data(), 1, 32, tensor.planes());
  // Codes 0..7 repeated, three bits each, first code in the lowest bits: 0b..010'001'000.
  const Planes planes = tensor.planes();
  EXPECT_EQ(static_cast<int>(planes[0][0]), 0b10'001'000);
  EXPECT_EQ(static_cast<int>(planes[0][1]), 0b1'100'011'0);
  EXPECT_EQ(static_cast<int>(planes[0][2]), 0b111'110'10);
}

TEST(Format, Fp8CodesAreThoseOfE4M3) {
  const auto value = [](int code) { return fp8_format::kValues[static_cast<size_t>(code)]; };
  EXPECT_EQ(value(0x00), 0.0f);
  EXPECT_EQ(value(0x01), 0x1p-9f);
  EXPECT_EQ(value(0x08), 0x1p-6f);
  EXPECT_EQ(value(0x38), 1.0f);
  EXPECT_EQ(value(0x7e), 448.0f);
  EXPECT_EQ(value(0xbc), -1.5f);
  EXPECT_TRUE(std::isnan(value(0x7f)) && std::isnan(value(0xff)));
  for (int code = 0; code < 0x7e; ++code) {
    EXPECT_EQ(fp8_format::nearest_code(value(code)), code);
    EXPECT_EQ(fp8_format::nearest_code(-value(code)), code | 0x80);
    // A tie goes to the even neighbour, anything beside it to the nearer one.
    const float middle = (value(code) + value(code + 1)) / 2;
    EXPECT_EQ(fp8_format::nearest_code(middle), code + (code & 1));
    EXPECT_EQ(fp8_format::nearest_code(std::nextafter(middle, 0.0f)), code);
    EXPECT_EQ(fp8_format::nearest_code(std::nextafter(middle, 1e9f)), code + 1);
  }
  EXPECT_EQ(fp8_format::nearest_code(1e9f), 0x7e);
}

TEST(Format, UnknownNamesListTheKnown) {
  const auto format = require_format("int7");
  ASSERT_FALSE(format);
  EXPECT_NE(format.error().message.find("int4_g128"), std::string::npos);
}

}  // namespace
}  // namespace quench
