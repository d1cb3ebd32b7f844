// NumPy .npy files of one float32 matrix: logits for other tools, and for tests to read back. A
// writer owns its temporary file and leaves nothing behind unless finish() succeeded; one thread at
// a time. Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/result.h"

namespace quench {

// Streams rows; how many there will be need not be known before.
class NpyWriter {
 public:
  static Result<NpyWriter> create(const std::string& path, int64_t num_columns);
  // values: [any number of rows, num_columns]
  Result<void> append_rows(std::span<const float> values);
  Result<void> finish();
  int64_t num_rows() const { return num_rows_; }

 private:
  AtomicFile file_;
  int64_t num_columns_ = 0;
  int64_t num_rows_ = 0;
};

struct NpyMatrix {
  int64_t num_rows = 0;
  int64_t num_columns = 0;
  std::vector<float> values;  // [num_rows, num_columns]
};

// Little-endian float32, C order, one or two dimensions (one gives a single row).
Result<NpyMatrix> read_npy(const std::string& path);
Result<NpyMatrix> parse_npy(std::span<const std::byte> bytes, std::string_view where);

}  // namespace quench
