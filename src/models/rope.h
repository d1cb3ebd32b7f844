// Rotary frequencies of a model. Most models have one table; Qwen1's dynamic NTK has one per power
// of two beyond the trained length, chosen per sequence from its prompt and kept while it decodes.
// So tables are a small bank.
#pragma once

#include <vector>

#include "models/config.h"

namespace quench {

struct RopeBank {
  int64_t num_tables = 0;
  std::vector<float> inv_freq;  // [num_tables, head_dim / 2]
  std::vector<float> scales;    // [num_tables] factor on cos and sin
};

RopeBank make_rope_bank(const ModelConfig& config);

// The table for a sequence whose prompt has `prompt_tokens` tokens. Qwen1's rule: alpha =
// 2^ceil(log2(n / seq_length)
// + 1) - 1, at least 1; base' = base * alpha^(d / (d - 2)).
int32_t rope_table_for(const ModelConfig& config, int64_t prompt_tokens);

// Qwen1's LogN factor of the query at a 0-based position: ln(position + 1) / ln(seq_length) beyond
// seq_length, else 1.
float logn_scale(const ModelConfig& config, int64_t position);

}  // namespace quench
