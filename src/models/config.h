// ModelConfig: what a forward pass needs to know of a model, under the names of Hugging Face's
// config.json. Filled by the family's parse(); shared code looks at these fields and never at the
// family's name.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace quench {

enum class RopeScaling { kNone, kLinear, kYarn };

struct RopeConfig {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  int64_t original_max_position_embeddings = 0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  double attention_factor = 1.0;  // multiplies cos and sin
};

struct MoeConfig {
  int64_t num_experts = 0;  // 0: a dense model
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  int64_t shared_expert_intermediate_size = 0;  // 0: no shared expert
  bool norm_topk_prob = false;
  std::vector<bool> sparse_layers;  // [num_hidden_layers] true: experts, false: a dense FFN
};

struct ModelConfig {
  std::string architecture;  // "Qwen2ForCausalLM"
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t intermediate_size =
      0;  // of a dense FFN, as the matrices have it (Qwen1's config says twice that)
  int64_t vocab_size = 0;  // rows of the embedding, padding rows included
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool attention_bias = false;         // q, k, v
  bool attention_output_bias = false;  // o
  bool qk_norm = false;
  std::vector<int64_t> windows;  // [num_hidden_layers] keys a query sees, itself included; 0: all
  RopeConfig rope;
  bool use_dynamic_ntk = false;  // Qwen1: rope base grows with the prompt beyond seq_length
  bool use_logn_attn =
      false;               // Qwen1: queries beyond seq_length are scaled by ln(i) / ln(seq_length)
  int64_t seq_length = 0;  // Qwen1's trained length
  MoeConfig moe;

  bool is_sparse(int64_t layer) const {
    return moe.num_experts > 0 && moe.sparse_layers[static_cast<size_t>(layer)];
  }
  int64_t q_dim() const { return num_attention_heads * head_dim; }
  int64_t kv_dim() const { return num_key_value_heads * head_dim; }
};

// Reads typed fields of a config.json. The first problem is kept and every later read returns a
// harmless value, so that a parse() is straight-line code with one check at its end.
class ConfigReader {
 public:
  explicit ConfigReader(const Json& config) : config_(config) {}

  // Integers must lie in [low, 2^31].
  int64_t integer(const char* name, int64_t low = 1);
  int64_t integer_or(const char* name, int64_t fallback, int64_t low = 1);
  double number_or(const char* name, double fallback);
  bool boolean_or(const char* name, bool fallback);
  std::vector<int64_t> integers_or_empty(const char* name);
  bool has(const char* name) const;  // present and not null
  const Json& at(const char* name) const { return config_.at(name); }
  void problem(std::string message);

  Result<void> finish() const;

 private:
  const Json& config_;
  std::string problem_;
};

int64_t parse_num_layers(ConfigReader& reader);

// Which layers have a sliding window, in a config without "layer_types".
using SlidingRule = bool (*)(int64_t layer, int64_t max_window_layers);
bool slides_from_max_window_layers(int64_t layer, int64_t max_window_layers);

// The fields that the Transformers-native families share: sizes, norm, tied embeddings, rope in
// the old (rope_theta, rope_scaling) and the new (rope_parameters) form, windows.
ModelConfig parse_common(ConfigReader& reader, SlidingRule slides = slides_from_max_window_layers);
// Experts and which layers have them (decoder_sparse_step, mlp_only_layers).
MoeConfig parse_moe(ConfigReader& reader, const ModelConfig& config);
// Relations between the fields; every parse() ends with it.
Result<ModelConfig> checked(const ConfigReader& reader, ModelConfig config);

}  // namespace quench
