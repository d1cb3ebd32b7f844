#include "quantize/transcode_parts.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "formats/quantized_tensor.h"

namespace quench {
namespace {

constexpr int64_t kRows = 8;
constexpr int64_t kCols = 256;

QuantizedTensor encoded(const Format& format) {
  std::vector<float> values(kRows * kCols);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(random_uniform(7, i) - 0.3);
  QuantizedTensor tensor(format, kRows, kCols);
  format.encode_rows(values.data(), kRows, kCols, tensor.planes());
  return tensor;
}

std::vector<float> decoded(const QuantizedTensor& tensor) {
  std::vector<float> values(kRows * kCols);
  tensor.format().decode_rows(tensor.planes(), kRows, kCols, values.data());
  return values;
}

TEST(Transcode, TwinsHaveExactlyTheSameNumbers) {
  int pairs = 0;
  for (const Format& from : all_formats()) {
    for (const Format& to : all_formats()) {
      if (&from == &to || from.encode == nullptr || !holds_numbers_of(to, from, kRows, kCols))
        continue;
      SCOPED_TRACE(from.name + " to " + to.name);
      const QuantizedTensor stored = encoded(from);
      QuantizedTensor moved(to, kRows, kCols);
      transcode_rows(from, stored.planes(), to, moved.planes(), kRows, kCols);
      EXPECT_EQ(decoded(moved), decoded(stored));
      ++pairs;
    }
  }
  EXPECT_GT(pairs, 30);
}

TEST(Transcode, WhatAnotherFormatCannotHoldIsNotItsTwin) {
  const auto holds = [](const char* to, const char* from) {
    return holds_numbers_of(*find_format(to), *find_format(from), kRows, kCols);
  };
  EXPECT_TRUE(holds("int4_g32", "q4_0"));
  EXPECT_TRUE(holds("int4_g32_zp", "q4_0"));    // 8 in the middle
  EXPECT_TRUE(holds("int4_g32", "int4_g128"));  // the scale four times
  EXPECT_TRUE(holds("iq4_g32", "iq4_nl"));
  EXPECT_FALSE(holds("int4_g128", "int4_g32"));  // one scale for four
  EXPECT_FALSE(holds("int4_g128", "int4_g128_zp"));
  EXPECT_FALSE(holds("int4_g128_bf16", "int4_g128"));  // an f16 has more digits
  EXPECT_FALSE(holds("int5_g32", "q4_0"));
  EXPECT_FALSE(holds("nf4_g64", "int4_g64"));
  EXPECT_FALSE(holds("int4_g32_zp", "q4_1"));  // its minimum is no whole number of steps
  EXPECT_FALSE(holds("int6_g32", "q6_k"));
}

}  // namespace
}  // namespace quench
