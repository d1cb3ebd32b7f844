// Encoders by lanes: the same bits in registers of four and of eight, one tile or many at a time.
#include <gtest/gtest.h>

#include <random>
#include <utility>

#include "formats/ggml/encoder.h"
#include "formats/integer.h"
#include "formats/quantized_tensor.h"

namespace quench {
namespace {

// Rows of very different ranges; zeros, one number everywhere, one that stands out.
std::vector<float> mixed_rows(int64_t rows, int64_t cols) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      float& value = x[static_cast<size_t>(r * cols + c)];
      value = normal(generator) * std::exp2(static_cast<float>(5 * r - 20));
      if (r == 1) value = 0.0f;
      if (r == 2) value = -0.25f;
      if (r == 3 && c % 100 == 17) value *= 1000.0f;
    }
  }
  return x;
}

using EncodeTile = decltype(Format::encode);

std::vector<std::byte> encoded_by(EncodeTile encode, const Format& format,
                                  const std::vector<float>& x, int64_t rows, int64_t cols) {
  QuantizedTensor tensor(format, rows, cols);
  const int64_t width = format.tile_width(cols);
  for (int64_t r = 0; r < rows; ++r) {
    Planes tile = format.row_planes(tensor.planes(), r, cols);
    for (int64_t c = 0; c < cols; c += width) {
      encode(format, x.data() + r * cols + c, cols, width, tile);
      for (size_t p = 0; p < format.planes.size(); ++p)
        tile[p] += format.planes[p].tile_bytes(width);
    }
  }
  std::vector<std::byte> all;
  for (size_t p = 0; p < format.planes.size(); ++p) {
    const std::byte* plane = std::as_const(tensor).planes()[p];
    all.insert(all.end(), plane, plane + format.plane_bytes(static_cast<int>(p), rows, cols));
  }
  return all;
}

constexpr int64_t kRows = 8;
constexpr int64_t kCols = 256 * 5;  // 40 tiles of 32

TEST(Encoder, IntegersHaveTheSameBitsInNarrowRegisters) {
  const std::vector<float> x = mixed_rows(kRows, kCols);
  int count = 0;
  for (const Format& format : integer_format::formats()) {
    EXPECT_EQ(encoded_by(format.encode, format, x, kRows, kCols),
              encoded_by(integer_format::encode<Lanes<4>>, format, x, kRows, kCols))
        << format.name;
    ++count;
  }
  EXPECT_GT(count, 20);
}

TEST(Encoder, RowsThatAreNoWholeLanesAreRoundedToTheEnd) {
  const int64_t cols = 83;
  const std::vector<float> x = mixed_rows(kRows, cols);
  const Format& format = *find_format("int8");
  QuantizedTensor tensor(format, kRows, cols);
  format.encode_rows(x.data(), kRows, cols, tensor.planes());
  std::vector<float> y(x.size());
  format.decode_rows(std::as_const(tensor).planes(), kRows, cols, y.data());
  for (int64_t r = 0; r < kRows; ++r) {
    float largest = 0.0f;
    for (int64_t c = 0; c < cols; ++c)
      largest = std::max(largest, std::fabs(x[static_cast<size_t>(r * cols + c)]));
    for (int64_t c = 0; c < cols; ++c) {
      const auto i = static_cast<size_t>(r * cols + c);
      EXPECT_LE(std::fabs(x[i] - y[i]), largest / 127.0f) << r << " " << c;
    }
  }
}

template <int kIndex>
void check_ggml(const std::vector<float>& x) {
  using Narrow = std::conditional_t<(ggml::kLayouts[kIndex].groups() > 1),
                                    ggml::BlockEncoder<kIndex, Lanes<4>>,
                                    ggml::SingleEncoder<kIndex, Lanes<4>>>;
  const Format& format = *find_format(ggml::kLayouts[kIndex].name);
  const std::vector<std::byte> tiles = encoded_by(format.encode, format, x, kRows, kCols);
  EXPECT_EQ(tiles, encoded_by(Narrow::encode, format, x, kRows, kCols)) << format.name;
  ASSERT_NE(format.encode_run, nullptr);
  // All tiles of a row but the last, so that the last lanes are not all used.
  const int64_t cols = kCols - format.tile_cols;
  for (int64_t r = 0; r < kRows; ++r) {
    QuantizedTensor row(format, 1, cols);
    format.encode_run(format, x.data() + r * kCols, cols / format.tile_cols, row.planes());
    const std::byte* stored = std::as_const(row).planes()[0];
    const int64_t row_bytes = format.plane_bytes(0, 1, cols);
    const std::byte* expected = tiles.data() + r * format.plane_bytes(0, 1, kCols);
    EXPECT_TRUE(std::equal(stored, stored + row_bytes, expected)) << format.name << " row " << r;
  }
}

TEST(Encoder, BlocksOfGgufHaveTheSameBitsInNarrowRegistersAndOneByOne) {
  const std::vector<float> x = mixed_rows(kRows, kCols);
  [&]<int... kIndices>(std::integer_sequence<int, kIndices...>) { (check_ggml<kIndices>(x), ...); }
  (std::make_integer_sequence<int, ggml::kNumLayouts>());
}

TEST(Encoder, TheNearestLevelOfATableIsFound) {
  const ggml::TableLevels<Lanes<4>> levels;
  for (float x = -140.0f; x < 130.0f; x += 0.37f) {
    float best = table_format::kIq4[0];
    for (const float level : table_format::kIq4) {
      if (std::fabs(level - x) < std::fabs(best - x)) best = level;
    }
    float found[Lanes<4>::kCount];
    levels.nearest(Lanes<4>::splat(x)).store(found);
    for (const float level : found) EXPECT_EQ(level, best) << x;
  }
}

}  // namespace
}  // namespace quench
