// InputTransform: what is done to the input of a matrix before it is multiplied. A matrix that was
// quantized in a changed basis is stored as W' with y = W' T(x); T is one of these. Values, copied
// freely; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace quench {

struct InputTransform {
  enum class Kind {
    kNone,
    kPermutation,  // T(x)[i] = x[permutation[i]]
    kHadamard,     // T(x) = H (signs * x), H orthonormal: see hadamard.h
  };
  Kind kind = Kind::kNone;
  std::vector<int32_t> permutation;  // [cols]
  std::vector<float> signs;          // [cols], +1 or -1
  std::vector<float> hartley;        // hartley_matrix(odd_part(cols)), with kHadamard

  static InputTransform permute(std::vector<int32_t> permutation);
  // Bit i of byte i / 8 is set where sign i is -1; [ceil(cols / 8)].
  static InputTransform from_sign_bits(int64_t cols, std::span<const std::byte> bits);
  std::vector<std::byte> sign_bits() const;
  // Random signs drawn from the seed.
  static InputTransform hadamard(int64_t cols, uint64_t seed);

  explicit operator bool() const { return kind != Kind::kNone; }
  bool operator==(const InputTransform&) const = default;
  // "none", "permutation", "hadamard".
  const char* name() const;
  // x [cols] becomes T(x), out of place; x and y may not overlap.
  void apply(std::span<const float> x, std::span<float> y) const;
  // A row of W' becomes the row of W = W' T, and back: what a decoder and an encoder of the matrix
  // in the original basis need. Out of place.
  void row_to_original(std::span<const float> stored, std::span<float> row) const;
  void row_to_stored(std::span<const float> row, std::span<float> stored) const;
};

// Every number from 0 to size - 1 once.
bool is_permutation(std::span<const int32_t> order);

}  // namespace quench
