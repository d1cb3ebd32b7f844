#include "quantize/encoder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quantize/dense_parts.h"

namespace quench {
InputStats transformed_stats(const InputStats& stats, const InputTransform& transform,
                             Device& device) {
  InputStats result;
  result.tokens = stats.tokens;
  const size_t cols = stats.mean_square.size();
  if (stats.second_moment.empty()) {
    // A rotation spreads everything over all columns; a permutation moves it.
    const bool moves = transform.kind == InputTransform::Kind::kPermutation;
    for (const auto& [from, to] : {std::pair{&stats.mean_square, &result.mean_square},
                                   std::pair{&stats.mean_abs, &result.mean_abs}}) {
      const float mean =
          std::accumulate(from->begin(), from->end(), 0.0f) / static_cast<float>(cols);
      to->assign(cols, mean);
      if (moves) transform.apply(*from, *to);
    }
    return result;
  }
  // T M T^t: the transform of every row, and then of every column, which are the rows of the
  // transpose.
  const auto n = static_cast<int64_t>(cols);
  std::vector<float> square(cols * cols);
  const auto transform_rows = [&](bool fills) {
    device.run([&](const OpContext& context) {
      const Range range = worker_range(context.worker, n);
      std::vector<float> row(cols);
      for (int64_t r = range.begin; r < range.end; ++r) {
        float* const to = square.data() + r * n;
        if (fills) {
          for (int64_t c = 0; c < n; ++c)
            row[static_cast<size_t>(c)] = stats.second_moment.at(r, c);
        } else {
          std::copy_n(to, n, row.begin());
        }
        transform.apply(row, {to, cols});
      }
    });
  };
  transform_rows(true);
  transpose_square(device, square, n);
  transform_rows(false);
  result.second_moment = SymmetricMatrix(n);
  for (int64_t r = 0; r < n; ++r)
    std::copy(square.begin() + r * n + r, square.begin() + (r + 1) * n,
              result.second_moment.row(r) + r);
  for (int64_t i = 0; i < n; ++i) {
    result.mean_square.push_back(result.second_moment.at(i, i));
    result.mean_abs.push_back(std::sqrt(result.mean_square.back()));
  }
  return result;
}

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
