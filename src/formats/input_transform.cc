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

InputTransform InputTransform::from_sign_bits(int64_t cols, std::span<const std::byte> bits) {
  InputTransform transform;
  transform.kind = Kind::kHadamard;
  transform.signs.resize(static_cast<size_t>(cols));
  for (size_t i = 0; i < transform.signs.size(); ++i) {
    const bool is_negative = (static_cast<unsigned>(bits[i / 8]) >> (i % 8) & 1u) != 0;
    transform.signs[i] = is_negative ? -1.0f : 1.0f;
  }
  transform.hartley = hartley_matrix(odd_part(cols));
  return transform;
}

std::vector<std::byte> InputTransform::sign_bits() const {
  std::vector<std::byte> bits((signs.size() + 7) / 8);
  for (size_t i = 0; i < signs.size(); ++i) {
    if (signs[i] < 0.0f) bits[i / 8] |= static_cast<std::byte>(1u << (i % 8));
  }
  return bits;
}

InputTransform InputTransform::hadamard(int64_t cols, uint64_t seed) {
  std::vector<std::byte> bits((static_cast<size_t>(cols) + 7) / 8);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::byte>(random_bits(seed, i));
  return from_sign_bits(cols, bits);
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
