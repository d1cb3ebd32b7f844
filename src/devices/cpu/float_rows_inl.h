// Float weights where a file holds them, [n, k] row after row, for the time before they are packed.
// Sixteen rows at a time are interleaved in the first-level cache into the strip that they would be
// (strip_inl.h) and multiplied as that is (float_matmul_inl.h): every bit is the packed kernel's. A
// row is a multiple of 64 bytes.
//
// Limit: with one token the shuffles, two per 64 bytes, cost what reading does: 75 to 80 % of the
// packed kernel's speed on a Zen 5; with hundreds, a fiftieth.
#pragma once

#include "devices/cpu/float_matmul_inl.h"

namespace quench {
namespace {

// `bytes` bytes of the rows row .. row + 15 from byte `begin` on, as a strip. Rows past n are zero.
template <class V>
void interleave_rows(const FloatJob& job, int64_t row_bytes, int64_t row, int64_t begin,
                     int64_t bytes, std::byte* strip) {
  const std::byte* from = job.packed + row * row_bytes + begin;
  const int64_t rows = job.weight->n - row;
  alignas(64) std::byte filled[kStripRows * kLineBytes] = {};
  for (int64_t b = 0; b < bytes; b += kLineBytes) {
    std::byte* const to = strip + b * kStripRows;
    if (rows >= kStripRows) {
      V::interleave(from + b, row_bytes, to);
      continue;
    }
    for (int64_t r = 0; r < rows; ++r)
      __builtin_memcpy(filled + r * kLineBytes, from + r * row_bytes + b, kLineBytes);
    V::interleave(filled, kLineBytes, to);
  }
}

// A place for strips, as PackedStrips is.
template <class V, class W>
struct FileRows {
  static constexpr int kStripVectors = kStripRows / V::kWidth;
  static constexpr int kFewVectors = kStripVectors;

  template <int kTokens>
  static void add_all(const FloatJob& job, int64_t first, const typename W::X* (&x)[kTokens],
                      typename V::F (&acc)[kTokens][kFewVectors]) {
    constexpr int64_t kPieceBytes = 256;  // of a row
    const int64_t row_bytes = job.weight->k * W::kBytes;
    alignas(64) std::byte strip[kStripRows * kPieceBytes];
    for (int64_t begin = 0; begin < row_bytes; begin += kPieceBytes) {
      const int64_t bytes = row_bytes - begin < kPieceBytes ? row_bytes - begin : kPieceBytes;
      // The next sixteen rows, front to back: memory is read in one stream. Past the last row
      // nothing is asked for that faults.
      const std::byte* next = job.packed + (first + kStripRows) * row_bytes + begin * kStripRows;
      for (int64_t line = 0; line < bytes * kStripRows; line += kLineBytes)
        V::prefetch_far(next + line);
      interleave_rows<V>(job, row_bytes, first, begin, bytes, strip);
      const std::byte* w[kFewVectors];
      vectors_of(strip, w);
      float_columns<V, W, kTokens, kFewVectors>(w, x, bytes / W::kBytes, acc);
    }
  }

  template <int kVectors>
  void cache(const FloatJob& job, int64_t first, int64_t column,
             const std::byte* (&strips)[kVectors]) {
    constexpr int64_t kStepBytes = cached_columns<W>() * W::kBytes;
    const int64_t row_bytes = job.weight->k * W::kBytes;
    const int64_t begin = column * W::kBytes;
    const int64_t bytes = row_bytes - begin < kStepBytes ? row_bytes - begin : kStepBytes;
    for (int v = 0; v < kVectors; v += kStripVectors) {
      const int64_t row = first + v * V::kWidth;
      std::byte* const strip = cached_ + row % kGroupRows * kStepBytes;
      interleave_rows<V>(job, row_bytes, row, begin, bytes, strip);
      const std::byte* w[kStripVectors];
      vectors_of(strip, w);
      for (int i = 0; i < kStripVectors; ++i) strips[v + i] = w[i];
      for (int64_t r = 0; r < kStripRows; ++r)
        for (int64_t line = 0; line < kStepBytes; line += kLineBytes)
          V::prefetch_far(job.packed + (row + r) * row_bytes + begin + kStepBytes + line);
    }
  }

 private:
  static constexpr int64_t kGroupRows = V::kVectors * V::kWidth;

  static void vectors_of(const std::byte* strip, const std::byte* (&w)[kStripVectors]) {
    for (int v = 0; v < kStripVectors; ++v)
      w[v] = strip + v * V::kWidth * W::kBytes * W::kStepColumns;
  }

  alignas(64) std::byte cached_[kGroupRows * cached_columns<W>() * W::kBytes];
};

}  // namespace
}  // namespace quench
