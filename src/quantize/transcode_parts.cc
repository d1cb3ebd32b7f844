#include "quantize/transcode_parts.h"

#include <algorithm>
#include <vector>

namespace quench {
namespace {

bool same_levels(const Format& a, const Format& b) {
  if (a.bits != b.bits) return false;
  if (a.grid.levels == nullptr || b.grid.levels == nullptr) return a.grid.levels == b.grid.levels;
  return std::equal(a.grid.levels, a.grid.levels + (1 << a.bits), b.grid.levels);
}

bool is_plain_grid(const Format& format) { return format.grid.is_plain() && format.tile_rows == 1; }

// The planes at tile `t` of a row.
template <class AnyPlanes>
AnyPlanes tile_planes(const Format& format, AnyPlanes planes, int64_t t, int64_t width) {
  for (size_t p = 0; p < format.planes.size(); ++p) {
    const Plane& plane = format.planes[p];
    planes[p] += t * plane.tile_bytes(width);
  }
  return planes;
}

}  // namespace

bool holds_numbers_of(const Format& to, const Format& from, int64_t rows, int64_t cols) {
  if (&to == &from) return to.fits(rows, cols);
  if (!is_plain_grid(from) || !is_plain_grid(to) || to.grid.write == nullptr) return false;
  if (!from.fits(rows, cols) || !to.fits(rows, cols)) return false;
  const bool holds_scale = to.grid.scale == from.grid.scale || to.grid.scale == ScaleType::kF32;
  const bool holds_zero = to.zero_point || !from.zero_point;
  return same_levels(to, from) && holds_scale && holds_zero &&
         from.tile_width(cols) % to.tile_width(cols) == 0;
}

void transcode_rows(const Format& from, const ConstPlanes& stored, const Format& to,
                    const Planes& out, int64_t num_rows, int64_t cols) {
  const int64_t width = from.tile_width(cols);
  const int64_t part = to.tile_width(cols);
  std::vector<uint8_t> codes(static_cast<size_t>(width));
  for (int64_t row = 0; row < num_rows; ++row) {
    const ConstPlanes from_row = from.row_planes(stored, row, cols);
    const Planes to_row = to.row_planes(out, row, cols);
    for (int64_t t = 0; t < cols / width; ++t) {
      GridScales scales;
      from.grid.read(from, tile_planes(from, from_row, t, width), width, codes.data(), &scales);
      for (int64_t column = 0; column < width; column += part) {
        to.grid.write(to, codes.data() + column, part, scales,
                      tile_planes(to, to_row, (t * width + column) / part, part));
      }
    }
  }
}

}  // namespace quench
