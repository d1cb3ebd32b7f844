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
    const std::byte* block = strip + layout.codes_begin;
    for (int64_t column = 0; column < weight.k; column += kBlock) {
      int8_t levels[kTrellisCols];
      decode_trellis_row(code, block, row, levels);
      block += trellis_block_bytes(code.bits);
      for (int64_t c = 0; c < kBlock; ++c)
        y[i * weight.k + column + c] = scale * static_cast<float>(levels[c]);
    }
  }
}

}  // namespace

bool grid_strips_accept(const Format& format, int64_t n, int64_t k) {
  if (format.trellis != nullptr) return k % kBlock == 0 && format.fits(n, k);
  const bool width_fits = format.bits >= 2 && format.bits <= 8 && format.bits != 7;
  const int64_t group = format.tile_cols;
  const bool group_fits = group == 0 || group == 32 || group == 64 || group == 128;
  return format.grid.read != nullptr && format.tile_rows == 1 && width_fits && group_fits &&
         k % kBlock == 0 && format.fits(n, k);
}

int64_t grid_strips_bytes(const Format& format, int64_t n, int64_t k) {
  return ceil_div(n, kStripRows) * grid_layout(format, k).strip_bytes;
}

void pack_grid_strips(const Tensor& source, int64_t, int64_t row_begin, std::byte* packed) {
  const Format& format = *source.format;
  if (format.trellis != nullptr) {
    pack_trellis_strips(source, row_begin, packed);
    return;
  }
  const int64_t k = source.cols;
  const GridLayout layout = grid_layout(format, k);
  const PlaneWidths widths = plane_widths(format.bits);
  const int64_t group = format.tile_width(k);
  std::vector<uint8_t> codes(static_cast<size_t>(k));
  for (int64_t row = 0; row < source.rows; ++row) {
    std::byte* strip = packed + (row_begin + row) / kStripRows * layout.strip_bytes;
    const int64_t lane = (row_begin + row) % kStripRows;
    ConstPlanes tile = format.row_planes(source.planes, row, k);
    for (int64_t g = 0; g < k / group; ++g) {
      float scale = 0.0f;
      uint8_t zero = 0;
      format.grid.read(format, tile, group, codes.data() + g * group, &scale, &zero);
      put_scale(layout.scale_type, scale,
                strip + g * layout.scale_bytes + lane * layout.scale_bytes / kStripRows);
      if (format.zero_point)
        strip[layout.zeros_begin + g * kStripRows + lane] = static_cast<std::byte>(zero);
      for (size_t p = 0; p < format.planes.size(); ++p)
        tile[p] += format.plane_bytes(static_cast<int>(p), 1, group);
    }
    std::byte* to = strip + layout.codes_begin + 4 * lane;
    for (int64_t block = 0; block < layout.blocks; ++block, to += format.bits * kLineBytes) {
      const uint8_t* from = codes.data() + block * kBlock;
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
  const int64_t group = format.tile_width(weight.k);
  const int symmetric_zero = format.grid.levels != nullptr ? 0 : 1 << (format.bits - 1);
  const Range range = worker_range(context.worker, num_ids);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const std::byte* strip = weight.packed + ids[i] / kStripRows * layout.strip_bytes;
    const int64_t lane = ids[i] % kStripRows;
    const std::byte* from = strip + layout.codes_begin + 4 * lane;
    float* out = y + i * weight.k;
    for (int64_t block = 0; block < layout.blocks; ++block, from += format.bits * kLineBytes) {
      uint8_t codes[kBlock] = {};
      add_plane(from, widths.low, 0, codes);
      if (widths.high > 0)
        add_plane(from + widths.low * kLineBytes, widths.high, widths.low, codes);
      const int64_t g = block * kBlock / group;
      const std::byte* scale_at =
          strip + g * layout.scale_bytes + lane * layout.scale_bytes / kStripRows;
      const float scale = get_scale(layout.scale_type, scale_at);
      const int zero = format.zero_point
                           ? static_cast<int>(strip[layout.zeros_begin + g * kStripRows + lane])
                           : symmetric_zero;
      for (int64_t c = 0; c < kBlock; ++c) {
        const float level = format.grid.levels != nullptr
                                ? format.grid.levels[codes[c]]
                                : static_cast<float>(static_cast<int>(codes[c]) - zero);
        out[block * kBlock + c] = scale * level;
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

}  // namespace quench
