// The packed layout of e4m3 weights (formats/fp8.h), for every ISA level. Strips of 16 rows as in
// strip_inl.h: first the scales, 16 f32 per 128 columns, or 16 f32 when a row has one; then the
// codes, 16 bytes per column. Stored scales are 2^8 times the format's: a code moved to the
// exponent and mantissa of an f16 is its value by 2^-8, denormals included.
#pragma once

#include "devices/cpu/strip_inl.h"

namespace quench {
namespace {

constexpr float kFp8ScaleFactor = 256.0f;

struct Fp8Layout {
  int64_t units;       // of 128 columns; the last may be shorter
  int64_t scale_step;  // bytes from the scales of a unit to those of the next: 0 if rows have one
  int64_t codes_begin;
  int64_t strip_bytes;
};

inline Fp8Layout fp8_layout(const Format& format, int64_t k) {
  const int64_t units = (k + kXBlock - 1) / kXBlock;
  const bool row_scales = format.tile_cols == 0;
  const int64_t codes_begin = (row_scales ? 1 : units) * kLineBytes;
  return {units, row_scales ? 0 : kLineBytes, codes_begin, codes_begin + kStripRows * k};
}

}  // namespace
}  // namespace quench
