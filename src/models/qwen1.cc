// Qwen (2023): QWenLMHeadModel. Fused c_attn with bias, dynamic NTK and LogN beyond the trained
// length, w2 is the gate, and the config's intermediate_size counts gate and up together.
#include "models/blocks.h"

namespace quench {
namespace {

Result<ModelConfig> parse(const Json& json) {
  ConfigReader reader(json);
  ModelConfig config;
  config.hidden_size = reader.integer("hidden_size");
  config.num_hidden_layers = parse_num_layers(reader);
  config.num_attention_heads = reader.integer("num_attention_heads");
  config.num_key_value_heads = config.num_attention_heads;
  config.head_dim =
      reader.integer_or("kv_channels", config.hidden_size / config.num_attention_heads);
  config.intermediate_size = reader.integer("intermediate_size", 2) / 2;
  config.vocab_size = reader.integer("vocab_size");
  config.seq_length = reader.integer("seq_length");
  config.max_position_embeddings = reader.integer_or("max_position_embeddings", config.seq_length);
  config.rms_norm_eps = reader.number_or("layer_norm_epsilon", 1e-6);
  config.tie_word_embeddings = reader.boolean_or("tie_word_embeddings", false);
  config.attention_bias = true;
  config.rope.theta = reader.number_or("rotary_emb_base", 10000.0);
  config.use_dynamic_ntk = reader.boolean_or("use_dynamic_ntk", false);
  config.use_logn_attn = reader.boolean_or("use_logn_attn", false);
  config.windows.assign(static_cast<size_t>(config.num_hidden_layers), 0);
  if (reader.number_or("rotary_pct", 1.0) != 1.0) reader.problem("\"rotary_pct\" must be 1.0");
  if (!reader.boolean_or("no_bias", true)) reader.problem("\"no_bias\" must be true");
  if (config.use_dynamic_ntk && config.head_dim < 4)
    reader.problem("dynamic NTK needs a head_dim of at least 4");
  return checked(reader, std::move(config));
}

void tensors(const ModelConfig& config, const TensorVisitor& visit) {
  const int64_t hidden = config.hidden_size;
  const int64_t q = config.q_dim();
  visit({"transformer.wte.weight", Role::kEmbedding, -1, -1, config.vocab_size, hidden});
  visit({"transformer.ln_f.weight", Role::kFinalNorm, -1, -1, 1, hidden});
  if (!config.tie_word_embeddings)
    visit({"lm_head.weight", Role::kHead, -1, -1, config.vocab_size, hidden});
  constexpr Role kWeights[] = {Role::kQ, Role::kK, Role::kV};
  constexpr Role kBiases[] = {Role::kQBias, Role::kKBias, Role::kVBias};
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    const std::string prefix = fmt::format("transformer.h.{}.", l);
    visit({prefix + "ln_1.weight", Role::kInputNorm, l, -1, 1, hidden});
    for (int64_t part = 0; part < 3; ++part) {
      visit({prefix + "attn.c_attn.weight", kWeights[part], l, -1, q, hidden, part * q, 3 * q});
      visit({prefix + "attn.c_attn.bias", kBiases[part], l, -1, 1, q, part, 3});
    }
    visit({prefix + "attn.c_proj.weight", Role::kO, l, -1, hidden, q});
    visit({prefix + "ln_2.weight", Role::kPostNorm, l, -1, 1, hidden});
    visit({prefix + "mlp.w2.weight", Role::kGate, l, -1, config.intermediate_size, hidden});
    visit({prefix + "mlp.w1.weight", Role::kUp, l, -1, config.intermediate_size, hidden});
    visit({prefix + "mlp.c_proj.weight", Role::kDown, l, -1, hidden, config.intermediate_size});
  }
}

}  // namespace

extern const Family qwen1_family;
const Family qwen1_family = {"QWenLMHeadModel", "Qwen 1.8B to 72B (2023)", parse, tensors,
                             decoder_forward};

}  // namespace quench
