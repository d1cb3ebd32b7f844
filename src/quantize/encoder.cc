#include "quantize/encoder.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace quench {

Result<const Algorithm*> require_algorithm(std::string_view name) {
  std::vector<std::string> known;
  for (const Algorithm* algorithm : all_algorithms()) {
    if (name == algorithm->name) return algorithm;
    known.emplace_back(algorithm->name);
  }
  return fail(ErrorCode::kInvalidArgument, "There is no algorithm \"{}\"; known are {}.", name,
              fmt::join(known, ", "));
}

EncodingErrors encoding_errors(const Format& format, const Planes& planes, int64_t num_rows,
                               int64_t cols, const float* weights) {
  EncodingErrors errors;
  std::vector<float> decoded(static_cast<size_t>(format.tile_rows * cols));
  ConstPlanes stored{};
  std::copy(planes.begin(), planes.end(), stored.begin());
  for (int64_t r = 0; r < num_rows; r += format.tile_rows) {
    format.decode_rows(format.row_planes(stored, r, cols), format.tile_rows, cols, decoded.data());
    const float* wanted = weights + r * cols;
    float error = 0.0f;
    float norm = 0.0f;
    for (size_t i = 0; i < decoded.size(); ++i) {
      const float difference = wanted[i] - decoded[i];
      error += difference * difference;
      norm += wanted[i] * wanted[i];
    }
    errors.add({error, norm});
  }
  return errors;
}

}  // namespace quench
