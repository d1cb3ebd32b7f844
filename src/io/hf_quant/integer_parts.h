// What the layouts of integer matrices have in common: the parts of a matrix are found by name and
// checked, and integers with scales, however a file orders them, become planes of the formats of
// formats/integer.h. Functions without state; any thread.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "io/stored_matrix.h"

namespace quench {

// Finds the tensors that a matrix consists of, and remembers them.
class PartFinder {
 public:
  // `name`: "....q_proj.weight"; its parts are "....q_proj.<part>".
  PartFinder(const Checkpoint& checkpoint, const std::string& name);

  const std::string& stem() const { return stem_; }
  const TensorEntry* find(const std::string& part);
  // The same without remembering it.
  const TensorEntry* peek(const std::string& part) const;
  // An error when the part is missing or has another type or shape.
  Result<const TensorEntry*> require(const std::string& part, std::initializer_list<Dtype> dtypes,
                                     std::initializer_list<int64_t> shape);
  // The same for a part that may be missing: null.
  Result<const TensorEntry*> optional(const std::string& part, std::initializer_list<Dtype> dtypes,
                                      std::initializer_list<int64_t> shape);
  std::vector<const TensorEntry*> take_entries() { return std::move(entries_); }
  // "DIR: "...q_proj"": the beginning of every message.
  std::string where() const;

 private:
  const Checkpoint& checkpoint_;
  std::string stem_;
  std::vector<const TensorEntry*> entries_;
};

// A matrix [rows, cols] of integers: value = scale * (code - zero), unsigned codes, one scale per
// `cols / groups` neighbours of a row. cols is a multiple of 32.
struct IntegerParts {
  int bits = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t groups = 1;       // per row
  bool zero_point = false;  // else the zero is 2^(bits - 1)
  Dtype scale_dtype = Dtype::kF16;
  // Codes of rows [row, row + num_rows) as a little-endian bit stream, cols * bits / 8 bytes a row.
  std::function<void(int64_t row, int64_t num_rows, std::byte* codes)> codes;
  // [num_rows, groups]; zeros may be ignored without zero_point.
  std::function<void(int64_t row, int64_t num_rows, float* scales, uint8_t* zeros)> scales;
  // Column i of the sorted groups is column permutation[i] of the file; empty: they are sorted.
  std::vector<int32_t> permutation;
};

// The matrix in the integer format whose numbers are these, or in f32 where there is none. `where`
// begins the messages about bad numbers.
StoredMatrix integer_matrix(IntegerParts parts, std::vector<const TensorEntry*> entries,
                            std::string where);

// Of codes I8 [rows, cols] with a zero of 0; the scales are left to the caller.
IntegerParts signed_byte_parts(const TensorEntry& codes, int64_t rows, int64_t cols);
// The codes of a matrix in int8, as I8 [rows, cols].
EncodedTensor signed_bytes(std::string name, const QuantizedTensor& matrix);

// Column order that sorts group_of [cols]; empty when it is sorted. An error when the groups are
// not [0, groups) of equal size.
Result<std::vector<int32_t>> sort_groups(std::span<const int32_t> group_of, int64_t groups,
                                         const std::string& where);

// Bit streams: code i at bits [i * bits, (i + 1) * bits). count is a multiple of 8.
void unpack_codes(const std::byte* stream, int64_t count, int bits, uint8_t* codes);
void pack_codes(const uint8_t* codes, int64_t count, int bits, std::byte* stream);

// Of a format of formats/integer.h: 128, 64, 32, or 0 for the row; -1 for any other format.
int64_t integer_group(const Format& format);

}  // namespace quench
