// Matrices of e4m3 codes [rows, cols] with one factor per block, row or matrix, as several layouts
// have them. Functions without state; any thread.
#pragma once

#include <string>
#include <vector>

#include "io/hf_quant/integer_parts.h"
#include "io/quant_writer.h"
#include "io/stored_matrix.h"

namespace quench {

struct BlockSize {
  int64_t rows = 1;
  int64_t cols = 1;
};
// [rows, cols] of a config; nothing when it is no pair of sensible numbers.
std::optional<BlockSize> block_size(const Json& value);

// value = e4m3(code) * factor of the block. Blocks at the edges may be partial.
struct Float8Parts {
  int64_t rows = 0;
  int64_t cols = 0;
  BlockSize block;
  const TensorEntry* weight = nullptr;  // F8_E4M3 [rows, cols]
  const TensorEntry* scales = nullptr;  // one per block, row by row
};

// The factors of the blocks; a single one may have the shape [1], [] or [1, 1].
Result<const TensorEntry*> find_float8_scales(PartFinder& finder, const std::string& part,
                                              const Float8Parts& parts);

// In fp8 or fp8_b128; in f32 where the blocks are none of theirs.
StoredMatrix float8_matrix(const Float8Parts& parts, std::vector<const TensorEntry*> entries,
                           std::string where);

// The tensors "STEM.weight" and "STEM.<scale_part>" of a matrix in fp8 (scales [rows, 1]) or
// fp8_b128 (scales [rows / 128, cols / 128]).
std::vector<EncodedTensor> write_float8(const std::string& stem, const std::string& scale_part,
                                        const QuantizedTensor& matrix);

}  // namespace quench
