#include <cmath>
#include <string_view>

#include "engine/weight_source.h"

namespace quench {
namespace {

uint64_t mix(uint64_t x) {  // the finaliser of SplitMix64 (Steele, Lea, Flood 2014)
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t hash(std::string_view text) {  // FNV-1a
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

class RandomSource : public WeightSource {
 public:
  explicit RandomSource(uint64_t seed) : seed_(seed) {}

  const Format* stored_format(const TensorSpec&) const override { return find_format("bf16"); }
  Result<ConstPlanes> stored_rows(const TensorSpec&, int64_t, int64_t,
                                  std::optional<QuantizedTensor>&) const override {
    return ConstPlanes{};
  }
  void drop(const TensorSpec&) const override {}

  Result<void> read_rows(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                         float* out) const override {
    const RoleRow& role = role_row(spec.role);
    const bool is_norm = std::string_view(role.name) == "norm";
    const float width = role.is_matrix ? std::sqrt(12.0f / static_cast<float>(spec.cols)) : 0.1f;
    const float center = is_norm ? 1.0f : 0.0f;
    const uint64_t name = mix(seed_ ^ hash(spec.name));
    for (int64_t r = 0; r < rows; ++r) {
      uint64_t state = mix(name + static_cast<uint64_t>(spec.row_begin + row_begin + r));
      float* row = out + r * spec.cols;
      for (int64_t i = 0; i < spec.cols; ++i) {
        // PCG-style step: a full-period LCG whose upper bits are good enough for weights.
        state = state * 6364136223846793005u + 1442695040888963407u;
        const float uniform = static_cast<float>(state >> 40) * 0x1p-24f - 0.5f;
        row[i] = center + width * uniform;
      }
    }
    return {};
  }

 private:
  uint64_t seed_;
};

}  // namespace

std::unique_ptr<WeightSource> make_random_source(uint64_t seed) {
  return std::make_unique<RandomSource>(seed);
}

}  // namespace quench
