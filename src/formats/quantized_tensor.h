// QuantizedTensor: a matrix that owns its planes. Move-only in effect (copying weights is never
// meant).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "formats/format.h"

namespace quench {

class QuantizedTensor {
 public:
  // All bytes zero. The format must fit the shape.
  QuantizedTensor(const Format& format, int64_t rows, int64_t cols);

  const Format& format() const { return *format_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  Planes planes() { return planes_; }
  ConstPlanes planes() const;

 private:
  const Format* format_;
  int64_t rows_;
  int64_t cols_;
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::byte, Free> storage_;
  Planes planes_{};
};

// A trellis format's codes by chance: any bytes are codes, and finding good ones takes long. Scales
// vary a little from row to row.
void fill_random_trellis(uint64_t seed, QuantizedTensor& tensor);

}  // namespace quench
