#include <cmath>
#include <map>
#include <mutex>
#include <string_view>

#include "base/bytes.h"
#include "base/float16.h"
#include "formats/hadamard.h"
#include "formats/trellis_code.h"

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
  RandomSource(uint64_t seed, Recipe recipe) : seed_(seed), recipe_(std::move(recipe)) {}

  const Format* stored_format(const TensorSpec& spec) const override {
    const Format* wanted = find_format(recipe_.format_for(spec.role, spec.layer));
    if (wanted != nullptr && wanted->trellis != nullptr && role_row(spec.role).is_matrix &&
        wanted->fits(spec.rows, spec.cols))
      return wanted;
    return find_format("bf16");
  }
  const InputTransform* transform(const TensorSpec& spec) const override {
    if (stored_format(spec)->trellis == nullptr || odd_part(spec.cols) > kMaxOddPart)
      return nullptr;
    const std::lock_guard lock(mutex_);
    auto& transform = rotations_[spec.cols];
    if (transform == nullptr)
      transform = std::make_unique<InputTransform>(InputTransform::hadamard(spec.cols, seed_));
    return transform.get();
  }
  Result<ConstPlanes> stored_rows(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                                  std::optional<QuantizedTensor>& buffer) const override {
    const Format& format = *stored_format(spec);
    if (format.trellis == nullptr) return ConstPlanes{};
    buffer.emplace(format, rows, spec.cols);
    const Planes planes = buffer->planes();
    uint64_t state =
        mix(mix(seed_ ^ hash(spec.name)) + static_cast<uint64_t>(spec.row_begin + row_begin));
    const int64_t bytes = format.plane_bytes(0, rows, spec.cols);  // of blocks: a multiple of 8
    for (int64_t i = 0; i < bytes; i += 8) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      store<uint64_t>(planes[0] + i, mix(state));
    }
    const float deviation = format.trellis->deviation;
    const float scale = 1.0f / (deviation * std::sqrt(static_cast<float>(spec.cols)));
    for (int64_t r = 0; r < rows; ++r) store<uint16_t>(planes[1] + 2 * r, f32_to_f16(scale));
    return std::as_const(*buffer).planes();
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
  Recipe recipe_;
  mutable std::mutex mutex_;
  mutable std::map<int64_t, std::unique_ptr<InputTransform>> rotations_;  // by columns
};

}  // namespace

std::unique_ptr<WeightSource> make_random_source(uint64_t seed, const Recipe& recipe) {
  return std::make_unique<RandomSource>(seed, recipe);
}

}  // namespace quench
