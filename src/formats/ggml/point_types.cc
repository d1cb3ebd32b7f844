#include "formats/ggml/point_types.h"

#include <bit>

#include "base/bytes.h"
#include "base/float16.h"

namespace quench::ggml {
namespace {

#include "formats/ggml/grids.inc"

constexpr int kWeights = 256;

// The points of a set in ascending order, kDim coordinates each.
template <int kDim>
class PointSet {
 public:
  // bits: a hexadecimal digit for four points of the lattice.
  PointSet(const char* bits, std::span<const uint8_t> levels) {
    for (int rank = 0; bits[rank / 4] != '\0'; ++rank) {
      const char digit = bits[rank / 4];
      const int value = digit <= '9' ? digit - '0' : digit - 'a' + 10;
      if ((value >> (rank % 4) & 1) == 0) continue;
      std::array<float, kDim>& point = points_.emplace_back();
      const auto base = static_cast<int>(levels.size());
      for (int i = 0, rest = rank; i < kDim; ++i, rest /= base)
        point[static_cast<size_t>(i)] = levels[static_cast<size_t>(rest % base)];
    }
  }
  const float* at(int index) const { return points_[static_cast<size_t>(index)].data(); }

 private:
  std::vector<std::array<float, kDim>> points_;
};

constexpr uint8_t kLevels2[] = {8, 25, 43};
constexpr uint8_t kLevels3Xxs[] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr uint8_t kLevels3S[] = {1, 3, 5, 7, 9, 11, 13, 15};

int byte_at(const std::byte* block, int offset) { return static_cast<int>(block[offset]); }
float scale_at(const std::byte* block) { return f16_to_f32(load<uint16_t>(block)); }

// Seven signs are stored; the eighth makes their number even.
int eight_signs(uint32_t seven) {
  return static_cast<int>(seven | static_cast<uint32_t>(std::popcount(seven) & 1) << 7);
}

void put_signed(const float* point, int count, int signs, float scale, float* x) {
  for (int i = 0; i < count; ++i) {
    const float value = scale * point[i];
    x[i] = (signs >> i & 1) != 0 ? -value : value;
  }
}

// Eight neighbours, from two points of four.
void put_pair(const float* first, const float* second, int signs, float scale, float* x) {
  put_signed(first, 4, signs, scale, x);
  put_signed(second, 4, signs >> 4, scale, x + 4);
}

// f16 scale; per 32: four indices, and a word of four times seven signs and a 4-bit scale.
void decode_iq2_xxs(const Format&, const ConstPlanes& tile, int64_t, float* x, int64_t) {
  static const PointSet<8> points(kIq2XxsPoints, kLevels2);
  const float d = scale_at(tile[0]);
  for (int g = 0; g < 8; ++g) {
    const std::byte* at = tile[0] + 2 + 8 * g;
    const auto word = load<uint32_t>(at + 4);
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.25f;
    for (int i = 0; i < 4; ++i) {
      put_signed(points.at(byte_at(at, i)), 8, eight_signs(word >> (7 * i) & 127), scale,
                 x + 32 * g + 8 * i);
    }
  }
}

// f16 scale; 32 words of a 9-bit index and seven signs; 4-bit scales per 16.
void decode_iq2_xs(const Format&, const ConstPlanes& tile, int64_t, float* x, int64_t) {
  static const PointSet<8> points(kIq2XsPoints, kLevels2);
  const float d = scale_at(tile[0]);
  for (int i = 0; i < 32; ++i) {
    const auto word = load<uint16_t>(tile[0] + 2 + 2 * i);
    const int small = byte_at(tile[0], 66 + i / 4) >> (i / 2 % 2 * 4) & 15;
    const float scale = d * (0.5f + static_cast<float>(small)) * 0.25f;
    put_signed(points.at(word & 511), 8, eight_signs(word >> 9), scale, x + 8 * i);
  }
}

// f16 scale; 32 lower bytes of indices; 32 bytes of signs; 2 upper bits each; 4-bit scales per 16.
void decode_iq2_s(const Format&, const ConstPlanes& tile, int64_t, float* x, int64_t) {
  static const PointSet<8> points(kIq2SPoints, kLevels2);
  const float d = scale_at(tile[0]);
  for (int i = 0; i < 32; ++i) {
    const int high = byte_at(tile[0], 66 + i / 4) >> (i % 4 * 2) & 3;
    const int small = byte_at(tile[0], 74 + i / 4) >> (i / 2 % 2 * 4) & 15;
    const float scale = d * (0.5f + static_cast<float>(small)) * 0.25f;
    put_signed(points.at(byte_at(tile[0], 2 + i) | high << 8), 8, byte_at(tile[0], 34 + i), scale,
               x + 8 * i);
  }
}

// f16 scale; 64 indices; per 32 a word of four times seven signs and a 4-bit scale.
void decode_iq3_xxs(const Format&, const ConstPlanes& tile, int64_t, float* x, int64_t) {
  static const PointSet<4> points(kIq3XxsPoints, kLevels3Xxs);
  const float d = scale_at(tile[0]);
  for (int i = 0; i < 32; ++i) {
    const auto word = load<uint32_t>(tile[0] + 66 + i / 4 * 4);
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
    put_pair(points.at(byte_at(tile[0], 2 + 2 * i)), points.at(byte_at(tile[0], 3 + 2 * i)),
             eight_signs(word >> (i % 4 * 7) & 127), scale, x + 8 * i);
  }
}

// f16 scale; 64 lower bytes of indices; the upper bit of each; 32 bytes of signs; 4-bit scales per
// 32.
void decode_iq3_s(const Format&, const ConstPlanes& tile, int64_t, float* x, int64_t) {
  static const PointSet<4> points(kIq3SPoints, kLevels3S);
  const float d = scale_at(tile[0]);
  const auto point = [&](int i) {
    const int high = byte_at(tile[0], 66 + i / 8) >> (i % 8) & 1;
    return points.at(byte_at(tile[0], 2 + i) | high << 8);
  };
  for (int i = 0; i < 32; ++i) {
    const int small = byte_at(tile[0], 106 + i / 8) >> (i / 4 % 2 * 4) & 15;
    put_pair(point(2 * i), point(2 * i + 1), byte_at(tile[0], 74 + i),
             d * static_cast<float>(1 + 2 * small), x + 8 * i);
  }
}

Format make(const char* name, const char* description, int bits, int block_bytes,
            decltype(Format::decode) decode) {
  Format format;
  format.name = name;
  format.description = description;
  format.tile_cols = kWeights;
  format.planes = {{"blocks", 0, block_bytes}};
  format.bits = bits;
  format.decode = decode;
  return format;
}

}  // namespace

std::vector<Format> point_formats() {
  return {
      make("iq2_xxs", "GGUF: 8 weights are one of 256 points", 2, 66, decode_iq2_xxs),
      make("iq2_xs", "GGUF: 8 weights are one of 512 points", 2, 74, decode_iq2_xs),
      make("iq2_s", "GGUF: 8 weights are one of 1024 points", 2, 82, decode_iq2_s),
      make("iq3_xxs", "GGUF: 4 weights are one of 256 points", 3, 98, decode_iq3_xxs),
      make("iq3_s", "GGUF: 4 weights are one of 512 points", 3, 110, decode_iq3_s),
  };
}

}  // namespace quench::ggml
