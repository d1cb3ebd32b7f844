// Batch: the ragged tokens of one step, for many sequences. Prefill is a long query, decode a query
// of length 1, chunked prefill and speculative verification are in between; there is no flag that
// tells them apart.
#pragma once

#include <cstdint>
#include <vector>

namespace quench {

// Built by the scheduler on the host; S sequences, T tokens, P pages in the longest table.
struct Batch {
  std::vector<int32_t> tokens;       // [T]
  std::vector<int32_t> positions;    // [T]
  std::vector<int32_t> sequence;     // [T] index into the rows of page_table
  std::vector<int32_t> rope_table;   // [T] row of the model's rope bank (models/rope.h)
  std::vector<float> query_scale;    // [T] LogN factors; empty when the model has none
  std::vector<int32_t> query_start;  // [S + 1]
  std::vector<int32_t> kv_len;       // [S] keys after this step
  std::vector<int32_t> page_table;   // [S, max_pages]
  int64_t max_pages = 0;
  std::vector<int32_t> logit_rows;  // [L] tokens of this step whose logits are wanted

  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_sequences() const { return static_cast<int64_t>(kv_len.size()); }
};

}  // namespace quench
