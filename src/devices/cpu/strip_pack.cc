#include "devices/cpu/strip_pack.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "devices/cpu/strip_inl.h"
#include "formats/scale.h"
#include "formats/trellis_code.h"

namespace quench {
namespace {

// The bit planes of a code, low part first: 5 = 4 + 1.
struct PlaneWidths {
  int low;
  int high;  // 0: none
};
PlaneWidths plane_widths(int bits) {
  switch (bits) {
    case 3:
      return {2, 1};
    case 5:
      return {4, 1};
    case 6:
      return {4, 2};
    default:
      return {bits, 0};
  }
}

// One row's part of a plane: `width` bits from bit `shift` of the 32 codes of a block on, as
// `width` words of 4 bytes, 64 bytes apart.
void put_plane(const uint8_t* codes, int width, int shift, std::byte* to) {
  const int per_byte = 8 / width;
  const uint32_t mask = (0xffu >> (8 - width)) * 0x01010101u;
  for (int j = 0; j < width; ++j, to += kLineBytes) {
    uint32_t word = 0;
    for (int i = 0; i < per_byte; ++i) {
      uint32_t quad = 0;
      std::memcpy(&quad, codes + 4 * (j * per_byte + i), 4);
      word |= (quad >> shift & mask) << (i * width);
    }
    std::memcpy(to, &word, 4);
  }
}

void add_plane(const std::byte* from, int width, int shift, uint8_t* codes) {
  const int per_byte = 8 / width;
  const uint32_t mask = (0xffu >> (8 - width)) * 0x01010101u;
  for (int j = 0; j < width; ++j, from += kLineBytes) {
    uint32_t word = 0;
    std::memcpy(&word, from, 4);
    for (int i = 0; i < per_byte; ++i) {
      uint32_t quad = 0;
      uint8_t* const at = codes + 4 * (j * per_byte + i) % kBlock;
      std::memcpy(&quad, at, 4);
      quad |= (word >> (i * width) & mask) << shift;
      std::memcpy(at, &quad, 4);
    }
  }
}

// A tile of the file is a strip but for the width of its scales.
void pack_trellis_strips(const Tensor& source, int64_t row_begin, std::byte* packed) {
  const Format& format = *source.format;
  const GridLayout layout = grid_layout(format, source.cols);
  for (int64_t row = 0; row < source.rows; row += kStripRows) {
    std::byte* strip = packed + (row_begin + row) / kStripRows * layout.strip_bytes;
    const ConstPlanes tile = format.row_planes(source.planes, row, source.cols);
    for (int64_t r = 0; r < kStripRows; ++r)
      store<float>(strip + 4 * r, f16_to_f32(load<uint16_t>(tile[1] + 2 * r)));
    std::memcpy(strip + layout.codes_begin, tile[0],
                static_cast<size_t>(layout.strip_bytes - layout.codes_begin));
  }
}

void gather_trellis_strips(const OpContext& context, const Weight& weight, const int32_t* ids,
                           int64_t num_ids, float* y) {
  const TrellisCode& code = *weight.format->trellis;
  const GridLayout layout = grid_layout(*weight.format, weight.k);
  const Range range = worker_range(context.worker, num_ids);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const std::byte* strip = weight.packed + ids[i] / kStripRows * layout.strip_bytes;
    const auto row = static_cast<int>(ids[i] % kStripRows);
    const float scale = load<float>(strip + 4 * row);
    for (int64_t column = 0; column < weight.k; column += kBlock) {
      int8_t levels[kTrellisCols];
      decode_trellis_row(code, strip + layout.codes_begin, column / kBlock, row, levels);
      for (int64_t c = 0; c < kBlock; ++c)
        y[i * weight.k + column + c] = scale * static_cast<float>(levels[c]);
    }
  }
}

}  // namespace

bool grid_strips_accept(const Format& format, int64_t n, int64_t k) {
  if (format.trellis != nullptr) return k % kBlock == 0 && format.fits(n, k);
  const bool width_fits = format.bits >= 2 && format.bits <= 8 && format.bits != 7;
  const auto is_group = [](int64_t columns) {
    return columns == 32 || columns == 64 || columns == kXBlock;
  };
  const int64_t small = format.grid.small_scales;
  const bool group_fits = small > 0 ? small == kSumColumns || is_group(small)
                                    : format.tile_cols == 0 || is_group(format.tile_cols);
  return format.grid.read != nullptr && format.tile_rows == 1 && width_fits && group_fits &&
         k % kBlock == 0 && format.fits(n, k);
}

int64_t grid_strips_bytes(const Format& format, int64_t n, int64_t k) {
  return ceil_div(n, kStripRows) * grid_layout(format, k).strip_bytes;
}

namespace {

// The scales of tile t of one row (`lane`) of a strip.
void put_grid_scales(const Format& format, const GridLayout& layout, const GridScales& scales,
                     int64_t tile, int64_t lane, std::byte* strip) {
  put_scale(layout.scale_type, scales.scale,
            strip + (tile * kStripRows + lane) * layout.scale_bytes / kStripRows);
  if (layout.mins_begin != 0)
    put_scale(ScaleType::kF16, scales.min,
              strip + layout.mins_begin + (tile * kStripRows + lane) * 2);
  if (format.zero_point)
    strip[layout.zeros_begin + tile * kStripRows + lane] = static_cast<std::byte>(scales.zero);
  if (layout.small_begin == 0) return;
  const int64_t groups = int64_t{1} << layout.scale_shift;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t at = (tile * groups + g) * kStripRows + lane;
    strip[layout.small_begin + at] = static_cast<std::byte>(scales.group_scale[g]);
    if (layout.zeros_begin != 0)
      strip[layout.zeros_begin + at] = static_cast<std::byte>(scales.group_min[g]);
  }
}

// value = scale * (level - zero) - min of a unit of one row.
struct UnitScales {
  float scale;
  int zero;
  float min;
};
UnitScales get_unit_scales(const Format& format, const GridLayout& layout, const std::byte* strip,
                           int64_t lane, int64_t unit) {
  const int64_t tile = (unit >> layout.scale_shift) * kStripRows + lane;
  const int64_t group = unit * kStripRows + lane;
  UnitScales s = {get_scale(layout.scale_type, strip + tile * layout.scale_bytes / kStripRows),
                  format.grid.levels != nullptr || layout.has_min() ? 0 : 1 << (format.bits - 1),
                  0.0f};
  if (format.zero_point) s.zero = static_cast<int>(strip[layout.zeros_begin + tile]);
  if (layout.mins_begin != 0)
    s.min = get_scale(ScaleType::kF16, strip + layout.mins_begin + tile * 2);
  if (layout.small_begin == 0) return s;
  s.scale *= static_cast<float>(static_cast<int8_t>(strip[layout.small_begin + group]));
  if (layout.zeros_begin != 0)
    s.min *= static_cast<float>(static_cast<uint8_t>(strip[layout.zeros_begin + group]));
  return s;
}

}  // namespace

void pack_grid_strips(const Tensor& source, int64_t, int64_t row_begin, std::byte* packed) {
  const Format& format = *source.format;
  if (format.trellis != nullptr) {
    pack_trellis_strips(source, row_begin, packed);
    return;
  }
  const int64_t k = source.cols;
  const GridLayout layout = grid_layout(format, k);
  const PlaneWidths widths = plane_widths(format.bits);
  const int64_t width = format.tile_width(k);
  std::vector<uint8_t> codes(static_cast<size_t>(k));
  for (int64_t row = 0; row < source.rows; ++row) {
    std::byte* strip = packed + (row_begin + row) / kStripRows * layout.strip_bytes;
    const int64_t lane = (row_begin + row) % kStripRows;
    ConstPlanes tile = format.row_planes(source.planes, row, k);
    for (int64_t t = 0; t < k / width; ++t) {
      GridScales scales;
      format.grid.read(format, tile, width, codes.data() + t * width, &scales);
      put_grid_scales(format, layout, scales, t, lane, strip);
      for (size_t p = 0; p < format.planes.size(); ++p)
        tile[p] += format.plane_bytes(static_cast<int>(p), 1, width);
    }
    std::byte* to = strip + layout.codes_begin + 4 * lane;
    for (int64_t column = 0; column < k; column += kBlock, to += format.bits * kLineBytes) {
      const uint8_t* from = codes.data() + column;
      put_plane(from, widths.low, 0, to);
      if (widths.high > 0) put_plane(from, widths.high, widths.low, to + widths.low * kLineBytes);
    }
  }
}

void gather_grid_strips(const OpContext& context, const Weight& weight, const int32_t* ids,
                        int64_t num_ids, float* y) {
  const Format& format = *weight.format;
  if (format.trellis != nullptr) {
    gather_trellis_strips(context, weight, ids, num_ids, y);
    return;
  }
  const GridLayout layout = grid_layout(format, weight.k);
  const PlaneWidths widths = plane_widths(format.bits);
  const Range range = worker_range(context.worker, num_ids);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const std::byte* strip = weight.packed + ids[i] / kStripRows * layout.strip_bytes;
    const int64_t lane = ids[i] % kStripRows;
    const std::byte* from = strip + layout.codes_begin + 4 * lane;
    float* out = y + i * weight.k;
    UnitScales scales = {};
    for (int64_t column = 0; column < weight.k;
         column += kBlock, from += format.bits * kLineBytes) {
      uint8_t codes[kBlock] = {};
      add_plane(from, widths.low, 0, codes);
      if (widths.high > 0)
        add_plane(from + widths.low * kLineBytes, widths.high, widths.low, codes);
      const int64_t step = layout.unit < kBlock ? layout.unit : kBlock;
      for (int64_t c = 0; c < kBlock; ++c) {
        if (c % step == 0)
          scales = get_unit_scales(format, layout, strip, lane, (column + c) / layout.unit);
        const float level = format.grid.levels != nullptr
                                ? format.grid.levels[codes[c]]
                                : static_cast<float>(static_cast<int>(codes[c]) - scales.zero);
        out[column + c] = scales.scale * level - scales.min;
      }
    }
  }
}

bool bf16_strips_accept(const Format& format, int64_t, int64_t k) {
  return format.name == "bf16" && k % 2 == 0;
}
bool f16_strips_accept(const Format& format, int64_t, int64_t k) {
  return format.name == "f16" && k % 2 == 0;
}
bool f32_strips_accept(const Format& format, int64_t, int64_t k) {
  return format.name == "f32" && k % 2 == 0;
}

int64_t float_strips_bytes(const Format& format, int64_t n, int64_t k) {
  return ceil_div(n, kStripRows) * float_strip_bytes(format, k);
}

namespace {

// Bytes of a row that lie together in a strip: 4, but 2 for f16.
int64_t cell_bytes(const Format& format) { return format.name == "f16" ? 2 : 4; }

template <class Cell>
void interleave(const std::byte* row, int64_t cells, std::byte* to) {
  for (int64_t i = 0; i < cells; ++i) {
    store<Cell>(to + i * kStripRows * static_cast<int64_t>(sizeof(Cell)),
                load<Cell>(row + i * static_cast<int64_t>(sizeof(Cell))));
  }
}

}  // namespace

void pack_float_strips(const Tensor& source, int64_t, int64_t row_begin, std::byte* packed) {
  const Format& format = *source.format;
  const int64_t row_bytes = source.cols * format.bits / 8;
  const int64_t cell = cell_bytes(format);
  // A few columns of all rows at a time, so that each line written is finished while in cache.
  constexpr int64_t kStepBytes = 256;
  for (int64_t begin = 0; begin < row_bytes; begin += kStepBytes) {
    const int64_t cells = std::min(kStepBytes, row_bytes - begin) / cell;
    for (int64_t row = 0; row < source.rows; ++row) {
      const std::byte* from = source.planes[0] + row * row_bytes + begin;
      std::byte* to = packed + (row_begin + row) / kStripRows * kStripRows * row_bytes +
                      begin * kStripRows + (row_begin + row) % kStripRows * cell;
      if (cell == 4) {
        interleave<uint32_t>(from, cells, to);
      } else {
        interleave<uint16_t>(from, cells, to);
      }
    }
  }
}

void gather_float_strips(const OpContext& context, const Weight& weight, const int32_t* ids,
                         int64_t num_ids, float* y) {
  const Format& format = *weight.format;
  const int64_t row_bytes = weight.k * format.bits / 8;
  const int64_t cell = cell_bytes(format);
  const int64_t width = format.bits / 8;
  const Range range = worker_range(context.worker, num_ids);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const std::byte* from =
        weight.packed + ids[i] / kStripRows * kStripRows * row_bytes + ids[i] % kStripRows * cell;
    for (int64_t c = 0; c < weight.k; ++c) {
      const std::byte* value = from + c * width / cell * cell * kStripRows + c * width % cell;
      y[i * weight.k + c] = format.bits == 32      ? load<float>(value)
                            : format.name == "f16" ? f16_to_f32(load<uint16_t>(value))
                                                   : bf16_to_f32(load<uint16_t>(value));
    }
  }
}

bool bf16_rows_accept(const Format& format, int64_t, int64_t k) {
  return format.name == "bf16" && k % kBlock == 0;
}
int64_t float_rows_bytes(const Format& format, int64_t n, int64_t k) {
  return format.matrix_bytes(n, k);
}
void copy_rows(const Tensor& source, int64_t, int64_t row_begin, std::byte* packed) {
  const Format& format = *source.format;
  std::memcpy(packed + format.matrix_bytes(row_begin, source.cols), source.planes[0],
              static_cast<size_t>(format.matrix_bytes(source.rows, source.cols)));
}
void gather_bf16_rows(const OpContext& context, const Weight& weight, const int32_t* ids,
                      int64_t num_ids, float* y) {
  const Range range = worker_range(context.worker, num_ids);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const std::byte* from = weight.packed + weight.k * 2 * ids[i];
    for (int64_t c = 0; c < weight.k; ++c)
      y[i * weight.k + c] = bf16_to_f32(load<uint16_t>(from + 2 * c));
  }
}

}  // namespace quench
