// A symmetric matrix in half the memory of a square one: the second moments of the widest inputs
// (29568 columns) are 3.5 GB as a square, and are held twice while one is factored. Owns its
// memory.
#pragma once

#include <cstdint>
#include <vector>

namespace quench {

class SymmetricMatrix {
 public:
  // Rows of a band have the same columns: from the first row's on. What is below the diagonal there
  // is anybody's.
  static constexpr int64_t kBand = 256;

  SymmetricMatrix() = default;
  // All zero.
  explicit SymmetricMatrix(int64_t n) : n_(n), values_(static_cast<size_t>(size_bytes(n) / 4)) {}

  static int64_t size_bytes(int64_t n) { return 4 * band_begin(n, (n + kBand - 1) / kBand); }

  int64_t n() const { return n_; }
  bool empty() const { return n_ == 0; }
  static int64_t first_column(int64_t i) { return i / kBand * kBand; }

  // Element j of row i is row(i)[j], for j >= first_column(i).
  float* row(int64_t i) { return values_.data() + row_begin(i); }
  const float* row(int64_t i) const { return values_.data() + row_begin(i); }
  // Above and below the diagonal.
  float at(int64_t i, int64_t j) const { return i <= j ? row(i)[j] : row(j)[i]; }

 private:
  // Floats before band b of a matrix of n. Bands are kBand rows of n, n - kBand, n - 2 kBand, ...
  // columns; the last may have fewer rows.
  static int64_t band_begin(int64_t n, int64_t b) {
    const int64_t rows = b * kBand < n ? b * kBand : n;
    const int64_t whole = rows / kBand;
    const int64_t floats = kBand * (whole * n - kBand * (whole * (whole - 1) / 2));
    return floats + (rows - whole * kBand) * (n - whole * kBand);
  }
  int64_t row_begin(int64_t i) const {
    const int64_t band = i / kBand;
    return band_begin(n_, band) + (i - band * kBand) * (n_ - band * kBand) - band * kBand;
  }

  int64_t n_ = 0;
  std::vector<float> values_;
};

}  // namespace quench
