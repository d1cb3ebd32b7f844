#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/bytes.h"
#include "base/file.h"
#include "base/float16.h"
#include "base/json.h"

namespace quench {
namespace {

TEST(Float16, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = f16_to_f32(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else {
      EXPECT_EQ(f32_to_f16(value), half);
    }
    const float bf = bf16_to_f32(half);
    if (!std::isnan(bf)) {
      EXPECT_EQ(f32_to_bf16(bf), half);
    }
  }
}

TEST(Float16, RoundsToNearestEven) {
  EXPECT_EQ(f32_to_f16(65519.0f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0x0000);         // half of the smallest subnormal: to even
  EXPECT_EQ(f32_to_f16(0x1.8p-24f), 0x0002);       // 1.5 units: to even
  EXPECT_EQ(f32_to_f16(1.0f + 0x1p-11f), 0x3c00);  // tie to even
  EXPECT_EQ(f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.0f + 0x1.8p-7f), 0x3f82);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(Bytes, CheckedArithmeticRefusesOverflow) {
  EXPECT_EQ(checked_mul(3, 4), 12);
  EXPECT_FALSE(checked_mul(int64_t{1} << 40, int64_t{1} << 40));
  EXPECT_FALSE(checked_add(std::numeric_limits<int64_t>::max(), 1));
  EXPECT_FALSE(checked_mul(-1, 2));
}

TEST(Json, RefusesDuplicateKeysDepthAndGarbage) {
  EXPECT_TRUE(parse_json(R"({"a": {"b": 1}, "c": [{"b": 2}]})", "x"));
  const auto duplicate = parse_json(R"({"a": 1, "a": 2})", "config.json");
  ASSERT_FALSE(duplicate);
  EXPECT_EQ(duplicate.error().message, "config.json: the JSON has the key \"a\" twice.");
  EXPECT_FALSE(parse_json(std::string(100, '[') + std::string(100, ']'), "x"));
  EXPECT_FALSE(parse_json("{", "x"));
  EXPECT_FALSE(parse_json("", "x"));
}

TEST(File, AtomicWriteThenReadAndMap) {
  const std::string path = testing::TempDir() + "/quench_file_test";
  ASSERT_TRUE(write_file_atomic(path, "hello"));
  EXPECT_EQ(*read_file(path), "hello");
  auto mapped = MappedFile::open(path);
  ASSERT_TRUE(mapped);
  EXPECT_EQ(mapped->bytes().size(), 5u);
  std::filesystem::remove(path);
  EXPECT_EQ(read_file(path).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(read_file(testing::TempDir()).error().code, ErrorCode::kInvalidFile);
}

}  // namespace
}  // namespace quench
