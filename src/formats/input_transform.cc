#include "formats/input_transform.h"

#include <algorithm>

#include "base/random.h"
#include "formats/hadamard.h"

namespace quench {

InputTransform InputTransform::permute(std::vector<int32_t> permutation) {
  InputTransform transform;
  transform.kind = Kind::kPermutation;
  transform.permutation = std::move(permutation);
  return transform;
}

InputTransform InputTransform::hadamard(std::vector<float> signs) {
  InputTransform transform;
  transform.kind = Kind::kHadamard;
  transform.hartley = hartley_matrix(odd_part(static_cast<int64_t>(signs.size())));
  transform.signs = std::move(signs);
  return transform;
}

InputTransform InputTransform::hadamard(int64_t cols, uint64_t seed) {
  std::vector<float> signs(static_cast<size_t>(cols));
  for (size_t i = 0; i < signs.size(); ++i) signs[i] = random_bits(seed, i) & 1 ? -1.0f : 1.0f;
  return hadamard(std::move(signs));
}

const char* InputTransform::name() const {
  switch (kind) {
    case Kind::kNone:
      return "none";
    case Kind::kPermutation:
      return "permutation";
    case Kind::kHadamard:
      return "hadamard";
  }
  return "";
}

void InputTransform::apply(std::span<const float> x, std::span<float> y) const {
  switch (kind) {
    case Kind::kNone:
      std::copy(x.begin(), x.end(), y.begin());
      return;
    case Kind::kPermutation:
      for (size_t i = 0; i < x.size(); ++i) y[i] = x[static_cast<size_t>(permutation[i])];
      return;
    case Kind::kHadamard:
      for (size_t i = 0; i < x.size(); ++i) y[i] = signs[i] * x[i];
      rotate(y, hartley);
      return;
  }
}

// T is orthogonal: W = W' T, so a row of W is T^t (row of W').
void InputTransform::row_to_original(std::span<const float> stored, std::span<float> row) const {
  switch (kind) {
    case Kind::kNone:
      std::copy(stored.begin(), stored.end(), row.begin());
      return;
    case Kind::kPermutation:
      for (size_t i = 0; i < row.size(); ++i) row[static_cast<size_t>(permutation[i])] = stored[i];
      return;
    case Kind::kHadamard:
      std::copy(stored.begin(), stored.end(), row.begin());
      rotate(row, hartley);
      for (size_t i = 0; i < row.size(); ++i) row[i] *= signs[i];
      return;
  }
}

// W' = W T^t: a row of W' is T (row of W).
void InputTransform::row_to_stored(std::span<const float> row, std::span<float> stored) const {
  apply(row, stored);
}

bool is_permutation(std::span<const int32_t> order) {
  std::vector<bool> seen(order.size());
  for (const int32_t i : order) {
    if (i < 0 || static_cast<size_t>(i) >= order.size() || seen[static_cast<size_t>(i)])
      return false;
    seen[static_cast<size_t>(i)] = true;
  }
  return true;
}

}  // namespace quench
