#include "formats/format.h"

#include <fmt/ranges.h>

#include <cmath>

#include "base/bytes.h"
#include "formats/trellis_code.h"

namespace quench {
namespace {

struct Alias {
  const char* name;
  const char* format;
};
// What people type for the usual choice of a width.
constexpr Alias kAliases[] = {{"float32", "f32"},    {"float16", "f16"},   {"bfloat16", "bf16"},
                              {"int4", "int4_g128"}, {"int3", "int3_g64"}, {"int2", "int2_g32"},
                              {"nf4", "nf4_g64"}};

template <class PlanesType>
PlanesType offset_rows(const Format& format, const PlanesType& matrix, int64_t row, int64_t cols) {
  PlanesType result = matrix;
  for (size_t p = 0; p < format.planes.size(); ++p) {
    result[p] += format.plane_bytes(static_cast<int>(p), row, cols);
  }
  return result;
}

// Calls visit(tile_planes, column) for the tiles of one tile row, left to right.
template <class PlanesType, class Visit>
void for_each_tile(const Format& format, PlanesType tile, int64_t cols, Visit visit) {
  const int64_t width = format.tile_width(cols);
  for (int64_t column = 0; column < cols; column += width) {
    visit(tile, column);
    for (size_t p = 0; p < format.planes.size(); ++p) {
      tile[p] += format.planes[p].tile_bytes(format.tile_rows * width);
    }
  }
}

}  // namespace

bool Format::fits(int64_t rows, int64_t cols) const {
  if (rows <= 0 || cols <= 0) return false;
  const int64_t width = tile_width(cols);
  if (rows % tile_rows != 0 || cols % width != 0) return false;
  if (trellis != nullptr && cols % trellis->cols_step() != 0) return false;
  for (const Plane& plane : planes) {
    const double tile_bits = static_cast<double>(tile_rows * width) * plane.bits_per_weight;
    if (std::fmod(tile_bits, 8.0) != 0.0) return false;
  }
  return true;
}

int64_t Format::plane_bytes(int p, int64_t rows, int64_t cols) const {
  const int64_t width = tile_width(cols);
  const int64_t tiles = (rows / tile_rows) * (cols / width);
  return tiles * planes[static_cast<size_t>(p)].tile_bytes(tile_rows * width);
}

int64_t Format::matrix_bytes(int64_t rows, int64_t cols) const {
  int64_t total = 0;
  for (int p = 0; p < static_cast<int>(planes.size()); ++p) total += plane_bytes(p, rows, cols);
  return total;
}

double Format::bits_per_weight(int64_t rows, int64_t cols) const {
  return 8.0 * static_cast<double>(matrix_bytes(rows, cols)) /
         (static_cast<double>(rows) * static_cast<double>(cols));
}

Planes Format::row_planes(const Planes& matrix, int64_t row, int64_t cols) const {
  return offset_rows(*this, matrix, row, cols);
}
ConstPlanes Format::row_planes(const ConstPlanes& matrix, int64_t row, int64_t cols) const {
  return offset_rows(*this, matrix, row, cols);
}

void Format::encode_rows(const float* x, int64_t rows, int64_t cols, const Planes& first) const {
  for (int64_t row = 0; row < rows; row += tile_rows) {
    if (encode_run != nullptr) {
      encode_run(*this, x + row * cols, cols / tile_cols, row_planes(first, row, cols));
      continue;
    }
    for_each_tile(*this, row_planes(first, row, cols), cols,
                  [&](const Planes& tile, int64_t column) {
                    encode(*this, x + row * cols + column, cols, tile_width(cols), tile);
                  });
  }
}

void Format::decode_rows(const ConstPlanes& first, int64_t rows, int64_t cols, float* x) const {
  for (int64_t row = 0; row < rows; row += tile_rows) {
    for_each_tile(*this, row_planes(first, row, cols), cols,
                  [&](const ConstPlanes& tile, int64_t column) {
                    decode(*this, tile, tile_width(cols), x + row * cols + column, cols);
                  });
  }
}

const Format* find_format(std::string_view name) {
  for (const Alias& alias : kAliases) {
    if (name == alias.name) name = alias.format;
  }
  for (const Format& format : all_formats()) {
    if (format.name == name) return &format;
  }
  return nullptr;
}

Result<const Format*> require_format(std::string_view name) {
  if (const Format* format = find_format(name)) return format;
  std::vector<std::string> names;
  for (const Format& format : all_formats()) names.push_back(format.name);
  return fail(ErrorCode::kInvalidArgument, "Unknown format \"{}\"; known are {}.", name,
              fmt::join(names, ", "));
}

Result<const Format*> require_encoder(std::string_view name) {
  QUENCH_TRY(const Format* format, require_format(name));
  if (format->encode != nullptr) return format;
  return fail(ErrorCode::kUnsupported,
              "Format \"{}\" is only read, where a model's file is stored in it; quench cannot "
              "encode weights in it.",
              name);
}

}  // namespace quench
