#include "formats/quantized_tensor.h"

#include "base/check.h"

namespace quench {

QuantizedTensor::QuantizedTensor(const Format& format, int64_t rows, int64_t cols)
    : format_(&format), rows_(rows), cols_(cols) {
  QUENCH_CHECK(format.fits(rows, cols), "{} does not divide [{}, {}]", format.name, rows, cols);
  storage_ = std::make_unique<std::byte[]>(static_cast<size_t>(format.matrix_bytes(rows, cols)));
  std::byte* next = storage_.get();
  for (size_t p = 0; p < format.planes.size(); ++p) {
    planes_[p] = next;
    next += format.plane_bytes(static_cast<int>(p), rows, cols);
  }
}

ConstPlanes QuantizedTensor::planes() const {
  ConstPlanes result{};
  for (size_t p = 0; p < result.size(); ++p) result[p] = planes_[p];
  return result;
}

}  // namespace quench
