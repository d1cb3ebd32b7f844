#include "formats/quantized_tensor.h"

#include <algorithm>
#include <new>

#include "base/bytes.h"
#include "base/check.h"
#include "base/float16.h"
#include "base/random.h"

namespace quench {

QuantizedTensor::QuantizedTensor(const Format& format, int64_t rows, int64_t cols)
    : format_(&format), rows_(rows), cols_(cols) {
  QUENCH_CHECK(format.fits(rows, cols), "{} does not divide [{}, {}]", format.name, rows, cols);
  // Zeros of the kernel, which take no memory until they are written: a layout is asked for with
  // tensors that nobody fills.
  const auto bytes = static_cast<size_t>(format.matrix_bytes(rows, cols));
  storage_.reset(static_cast<std::byte*>(std::calloc(std::max<size_t>(bytes, 1), 1)));
  if (storage_ == nullptr) throw std::bad_alloc();
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

void fill_random_trellis(uint64_t seed, QuantizedTensor& tensor) {
  const Planes planes = tensor.planes();
  const int64_t bytes = tensor.format().plane_bytes(0, tensor.rows(), tensor.cols());
  for (int64_t i = 0; i < bytes; ++i)
    planes[0][i] = static_cast<std::byte>(random_bits(seed, static_cast<uint64_t>(i)));
  for (int64_t r = 0; r < tensor.rows(); ++r)
    store<uint16_t>(planes[1] + 2 * r, f32_to_f16(4e-4f * static_cast<float>(r % 7)));
}

}  // namespace quench
