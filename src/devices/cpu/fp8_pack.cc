#include "devices/cpu/fp8_strip_inl.h"
#include "devices/cpu/strip_pack.h"
#include "formats/fp8.h"

namespace quench {

bool fp8_strips_accept(const Format& format, int64_t n, int64_t k) {
  return (format.name == "fp8" || format.name == "fp8_b128") && k % 4 == 0 && format.fits(n, k);
}

int64_t fp8_strips_bytes(const Format& format, int64_t n, int64_t k) {
  return ceil_div(n, kStripRows) * fp8_layout(format, k).strip_bytes;
}

void pack_fp8_strips(const Tensor& source, int64_t, int64_t row_begin, std::byte* packed) {
  const Format& format = *source.format;
  const int64_t k = source.cols;
  const Fp8Layout layout = fp8_layout(format, k);
  const int64_t width = format.tile_width(k);
  const int64_t tiles = k / width;
  for (int64_t row = 0; row < source.rows; ++row) {
    std::byte* strip = packed + (row_begin + row) / kStripRows * layout.strip_bytes;
    const int64_t lane = (row_begin + row) % kStripRows;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t tile = row / format.tile_rows * tiles + t;
      const std::byte* codes =
          source.planes[0] + (tile * format.tile_rows + row % format.tile_rows) * width;
      store<float>(strip + t * kLineBytes + lane * 4,
                   load<float>(source.planes[1] + tile * 4) * kFp8ScaleFactor);
      std::byte* to = strip + layout.codes_begin + t * width * kStripRows + lane;
      for (int64_t c = 0; c < width; ++c) to[c * kStripRows] = codes[c];
    }
  }
}

void gather_fp8_strips(const OpContext& context, const Weight& weight, const int32_t* ids,
                       int64_t num_ids, float* y) {
  const Fp8Layout layout = fp8_layout(*weight.format, weight.k);
  const Range range = worker_range(context.worker, num_ids);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const std::byte* strip = weight.packed + ids[i] / kStripRows * layout.strip_bytes;
    const int64_t lane = ids[i] % kStripRows;
    const std::byte* codes = strip + layout.codes_begin + lane;
    for (int64_t c = 0; c < weight.k; ++c) {
      const auto scale = load<float>(strip + c / kXBlock * layout.scale_step + lane * 4);
      y[i * weight.k + c] = scale / kFp8ScaleFactor *
                            fp8_format::kValues[static_cast<uint8_t>(codes[c * kStripRows])];
    }
  }
}

}  // namespace quench
