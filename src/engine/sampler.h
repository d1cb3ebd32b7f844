// Draws the next token from one row of logits. The order of the steps and their edge rules are
// those listed at SamplingSettings (include/quench/sampling.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quench/sampling.h"

namespace quench {

struct SamplerInput {
  std::span<float> logits;  // [vocab_rows], overwritten: unspecified values afterwards
  int64_t vocab_size;       // rows from here on pad the embedding: never read, never drawn
  std::span<const int32_t> prompt_ids;
  std::span<const int32_t> generated_ids;  // so far, in order
  int64_t position;                        // absolute position of the token to be drawn
};

// Memory that calls reuse, so that none allocates once it has grown. Owned by the caller; one call
// at a time. What it holds between calls does not change any result.
struct SamplerScratch {
  std::vector<float> block_max;   // [ceil(num_entries / 64)]
  std::vector<double> block_sum;  // [ceil(num_entries / 64)]
  std::vector<float> weights;     // [num_entries, padded to 64] exp(logit - largest logit)
  std::vector<float> values;      // [num_entries] logits of the entries left by top_k
  std::vector<int32_t> ids;       // [num_entries] token ids of a list, ascending
  std::vector<float> selection;   // [num_entries] reordered by partial selection
  std::vector<uint64_t> keys;     // [num_entries] (logit, entry) as sortable integers
  std::vector<uint32_t> stamp;    // [vocab_size] call in which an id was last seen
  std::vector<uint32_t> count;    // [vocab_size] occurrences in the output, 0 between calls
  std::vector<int32_t> touched;   // ids with a count
  uint32_t call = 0;
};

// The drawn token: the smallest id whose cumulative probability, in ascending order of ids, exceeds
// u = random_uniform(seed, position). Settings have passed validate(). Ids of prompt, output and
// logit_bias outside [0, vocab_size) are ignored. A logit of -inf, or 87 below the largest
// after temperature (a probability under 1e-37), is a token that cannot be drawn.
// kInternal when, after the penalties, a logit is NaN or +inf or all are -inf: the forward pass is
// at fault, and a token drawn from such a row would hide it.
//
// Softmax and its sums: exp in float32 (2e-7 relative), sums in double, compared in float32 with
// the limits of top_p and min_p, as transformers does on a CPU.
Result<int32_t> sample(const SamplingSettings& settings, const SamplerInput& input,
                       SamplerScratch& scratch);

// The same with u in [0, 1) given.
Result<int32_t> sample_with_draw(const SamplingSettings& settings, const SamplerInput& input,
                                 double u, SamplerScratch& scratch);

}  // namespace quench
