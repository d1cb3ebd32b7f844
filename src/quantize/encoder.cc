#include "quantize/encoder.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/lanes.h"

namespace quench {
namespace {

template <class L>
float square_norm(const float* x, int64_t count) {
  L sum = L::splat(0.0f);
  for_each_lanes<L>(
      x, count, [&](const L& v, int64_t) __attribute__((always_inline)) { sum += v * v; });
  return sum.sum();
}

// 0, or NaN where any number of x [count] is not finite.
template <class L>
float poison(const float* x, int64_t count) {
  L sum = L::splat(0.0f);
  for_each_lanes<L>(
      x, count, [&](const L& v, int64_t) __attribute__((always_inline)) {
        sum += v * L::splat(0.0f);
      });
  return sum.sum();
}

}  // namespace

Result<const Algorithm*> require_algorithm(std::string_view name) {
  std::vector<std::string> known;
  for (const Algorithm* algorithm : all_algorithms()) {
    if (name == algorithm->name) return algorithm;
    known.emplace_back(algorithm->name);
  }
  return fail(ErrorCode::kInvalidArgument, "There is no algorithm \"{}\"; known are {}.", name,
              fmt::join(known, ", "));
}

bool all_finite(std::span<const float> values) {
  static const auto kPoison = with_avx2<poison<Lanes<4>>, poison<Lanes<8>>>();
  return kPoison(values.data(), std::ssize(values)) == 0.0f;
}

EncodingErrors encoding_errors(const Format& format, const Planes& planes, int64_t num_rows,
                               int64_t cols, const float* weights) {
  static const auto kSquareNorm = with_avx2<square_norm<Lanes<4>>, square_norm<Lanes<8>>>();
  EncodingErrors errors;
  std::vector<float> decoded(static_cast<size_t>(format.tile_rows * cols));
  ConstPlanes stored{};
  std::copy(planes.begin(), planes.end(), stored.begin());
  for (int64_t r = 0; r < num_rows; r += format.tile_rows) {
    format.decode_rows(format.row_planes(stored, r, cols), format.tile_rows, cols, decoded.data());
    const float* wanted = weights + r * cols;
    for (size_t i = 0; i < decoded.size(); ++i) decoded[i] = wanted[i] - decoded[i];
    errors.add({kSquareNorm(decoded.data(), std::ssize(decoded)),
                kSquareNorm(wanted, std::ssize(decoded))});
  }
  return errors;
}

}  // namespace quench
