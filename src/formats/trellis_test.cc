#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numbers>
#include <set>

#include "base/random.h"
#include "formats/quantized_tensor.h"
#include "formats/trellis_code.h"

namespace quench {
namespace {

std::vector<float> normal(uint64_t seed, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    const double u = 1.0 - random_uniform(seed, i, 0);
    values[i] = static_cast<float>(std::sqrt(-2.0 * std::log(u)) *
                                   std::cos(2.0 * std::numbers::pi * random_uniform(seed, i, 1)));
  }
  return values;
}

// A block of a tile, bit by bit, as the header's words say it.
std::vector<int8_t> decode_by_the_book(const TrellisCode& code, const std::byte* tile, int block) {
  const int lane_bits = 4 * code.pair_bits();
  const int total = kTrellisLanes * lane_bits;
  auto bit = [&](int at) {
    at = (at + total) % total;
    const int lane = at / lane_bits;
    const int inside = block * lane_bits + at % lane_bits;
    return static_cast<int>(tile[inside / 8 * 64 + lane]) >> (inside % 8) & 1;
  };
  std::vector<int8_t> levels(512);
  int newest = -1;
  for (int lane = 0; lane < kTrellisLanes; ++lane) {
    for (int m = 0; m < 8; ++m) {
      newest += code.step_bits[m % 2];
      int index = 0;
      for (int q = 0; q < 6; ++q) {
        int parity = 0;
        for (int p = 0; p < kTrellisWindow; ++p)
          parity ^= (code.masks[q] >> p & 1) & bit(newest - p);
        index |= parity << q;
      }
      const int at = lane / 4 * 32 + 4 * m + lane % 4;
      levels[static_cast<size_t>(at)] = code.levels[index];
    }
  }
  return levels;
}

TEST(Trellis, DecodesAsDefined) {
  for (const TrellisCode& code : trellis_codes()) {
    std::vector<std::byte> tile(static_cast<size_t>(code.tile_bytes(64)));
    for (size_t i = 0; i < tile.size(); ++i) tile[i] = static_cast<std::byte>(random_bits(7, i));
    for (const int block : {0, 1}) {
      std::vector<int8_t> levels(512);
      decode_trellis_block(code, tile.data(), block, levels.data());
      EXPECT_EQ(levels, decode_by_the_book(code, tile.data(), block));
      for (int row = 0; row < 16; ++row) {
        int8_t one[32];
        decode_trellis_row(code, tile.data(), block, row, one);
        EXPECT_EQ(std::memcmp(one, levels.data() + row * 32, 32), 0);
      }
    }
  }
}

// Blocks may share a byte: each is written without a change to its neighbours.
TEST(Trellis, ABlockIsEncodedAlone) {
  for (const TrellisCode& code : trellis_codes()) {
    std::vector<float> targets = normal(13, 512);
    for (float& target : targets) target *= code.deviation;
    std::vector<std::byte> tile(static_cast<size_t>(code.tile_bytes(128)));
    for (size_t i = 0; i < tile.size(); ++i) tile[i] = static_cast<std::byte>(random_bits(8, i));
    const std::vector<std::byte> before = tile;
    encode_trellis_block(code, targets.data(), nullptr, tile.data(), 1);
    for (const int block : {0, 2, 3}) {
      EXPECT_EQ(decode_by_the_book(code, tile.data(), block),
                decode_by_the_book(code, before.data(), block));
    }
    std::vector<int8_t> levels(512);
    decode_trellis_block(code, tile.data(), 1, levels.data());
    double error = 0.0;
    double power = 0.0;
    for (size_t i = 0; i < 512; ++i) {
      error += std::pow(targets[i] - levels[i], 2.0);
      power += std::pow(targets[i], 2.0);
    }
    EXPECT_LT(error, 0.1 * power);
  }
}

// Levels come in pairs, and every level can be reached from every state.
TEST(Trellis, TheMapIsOnto) {
  for (const TrellisCode& code : trellis_codes()) {
    std::set<int> reached;
    for (uint32_t w = 0; w < 4096; ++w) reached.insert(code.index(w));
    EXPECT_EQ(reached.size(), 64u);
    for (int i = 0; i < 64; ++i) EXPECT_EQ(code.levels[i], -code.levels[63 - i]);
  }
}

TEST(Trellis, FitsWholeBlocksOnly) {
  const Format& format = *find_format("trellis3");
  EXPECT_TRUE(format.fits(16, 96));
  EXPECT_FALSE(format.fits(16, 48));
  EXPECT_FALSE(format.fits(8, 96));
  EXPECT_TRUE(find_format("trellis2.5")->fits(16, 128));
  EXPECT_FALSE(find_format("trellis2.5")->fits(16, 96));
}

TEST(Trellis, ImportantColumnsAreNearer) {
  const TrellisCode& code = trellis_codes()[0];
  const std::vector<float> x = normal(12, 512);
  std::vector<float> targets(512);
  for (size_t i = 0; i < 512; ++i) targets[i] = x[i] * code.deviation;
  std::vector<float> importance(32, 0.01f);
  for (size_t c = 0; c < 16; ++c) importance[c] = 1.0f;
  std::vector<std::byte> tile(static_cast<size_t>(code.tile_bytes(32)));
  encode_trellis_block(code, targets.data(), importance.data(), tile.data(), 0);
  std::vector<int8_t> levels(512);
  decode_trellis_block(code, tile.data(), 0, levels.data());
  double near = 0.0;
  double far = 0.0;
  for (size_t i = 0; i < 512; ++i) {
    const double squared = std::pow(targets[i] - levels[i], 2.0);
    (i % 32 < 16 ? near : far) += squared;
  }
  EXPECT_LT(near, 0.7 * far);
}

}  // namespace
}  // namespace quench
