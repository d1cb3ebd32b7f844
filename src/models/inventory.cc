// The tensor names of the Transformers-native families (Qwen1.5 and later).
#include "models/blocks.h"

namespace quench {

void visit_attention(const ModelConfig& config, int64_t layer, const TensorVisitor& visit) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const std::string attention = prefix + "self_attn.";
  auto matrix = [&](const char* name, Role role, int64_t rows, int64_t cols) {
    visit({attention + name + ".weight", role, layer, -1, rows, cols});
  };
  auto vector = [&](const std::string& name, Role role, int64_t length) {
    visit({name, role, layer, -1, 1, length});
  };
  vector(prefix + "input_layernorm.weight", Role::kInputNorm, config.hidden_size);
  matrix("q_proj", Role::kQ, config.q_dim(), config.hidden_size);
  matrix("k_proj", Role::kK, config.kv_dim(), config.hidden_size);
  matrix("v_proj", Role::kV, config.kv_dim(), config.hidden_size);
  matrix("o_proj", Role::kO, config.hidden_size, config.q_dim());
  if (config.attention_bias) {
    vector(attention + "q_proj.bias", Role::kQBias, config.q_dim());
    vector(attention + "k_proj.bias", Role::kKBias, config.kv_dim());
    vector(attention + "v_proj.bias", Role::kVBias, config.kv_dim());
  }
  if (config.attention_output_bias)
    vector(attention + "o_proj.bias", Role::kOBias, config.hidden_size);
  if (config.qk_norm) {
    vector(attention + "q_norm.weight", Role::kQNorm, config.head_dim);
    vector(attention + "k_norm.weight", Role::kKNorm, config.head_dim);
  }
  vector(prefix + "post_attention_layernorm.weight", Role::kPostNorm, config.hidden_size);
}

void visit_ffn(const ModelConfig& config, int64_t layer, const TensorVisitor& visit) {
  const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
  const int64_t hidden = config.hidden_size;
  const int64_t width = config.intermediate_size;
  visit({mlp + "gate_proj.weight", Role::kGate, layer, -1, width, hidden});
  visit({mlp + "up_proj.weight", Role::kUp, layer, -1, width, hidden});
  visit({mlp + "down_proj.weight", Role::kDown, layer, -1, hidden, width});
}

void visit_moe(const ModelConfig& config, int64_t layer, const TensorVisitor& visit) {
  const std::string mlp = fmt::format("model.layers.{}.mlp.", layer);
  const MoeConfig& moe = config.moe;
  const int64_t hidden = config.hidden_size;
  visit({mlp + "gate.weight", Role::kRouter, layer, -1, moe.num_experts, hidden});
  for (int64_t e = 0; e < moe.num_experts; ++e) {
    const std::string expert = fmt::format("{}experts.{}.", mlp, e);
    visit({expert + "gate_proj.weight", Role::kExpertGate, layer, e, moe.moe_intermediate_size,
           hidden});
    visit(
        {expert + "up_proj.weight", Role::kExpertUp, layer, e, moe.moe_intermediate_size, hidden});
    visit({expert + "down_proj.weight", Role::kExpertDown, layer, e, hidden,
           moe.moe_intermediate_size});
  }
  const int64_t shared = moe.shared_expert_intermediate_size;
  if (shared == 0) return;
  visit({mlp + "shared_expert.gate_proj.weight", Role::kSharedGate, layer, -1, shared, hidden});
  visit({mlp + "shared_expert.up_proj.weight", Role::kSharedUp, layer, -1, shared, hidden});
  visit({mlp + "shared_expert.down_proj.weight", Role::kSharedDown, layer, -1, hidden, shared});
  visit({mlp + "shared_expert_gate.weight", Role::kSharedRouter, layer, -1, 1, hidden});
}

void visit_globals(const ModelConfig& config, const TensorVisitor& visit) {
  visit({"model.embed_tokens.weight", Role::kEmbedding, -1, -1, config.vocab_size,
         config.hidden_size});
  visit({"model.norm.weight", Role::kFinalNorm, -1, -1, 1, config.hidden_size});
  if (!config.tie_word_embeddings) {
    visit({"lm_head.weight", Role::kHead, -1, -1, config.vocab_size, config.hidden_size});
  }
}

void visit_decoder(const ModelConfig& config, const TensorVisitor& visit) {
  visit_globals(config, visit);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    visit_attention(config, layer, visit);
    if (config.is_sparse(layer)) {
      visit_moe(config, layer, visit);
    } else {
      visit_ffn(config, layer, visit);
    }
  }
}

}  // namespace quench
