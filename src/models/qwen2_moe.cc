// Qwen1.5-MoE, Qwen2-57B-A14B: experts, and a shared expert weighed by a sigmoid gate.
#include "models/blocks.h"

namespace quench {
namespace {

// transformers 5 has windows in the even layers below max_window_layers here, unlike every other
// family.
bool slides(int64_t layer, int64_t max_window_layers) {
  return layer % 2 == 0 && layer < max_window_layers;
}

Result<ModelConfig> parse(const Json& json) {
  ConfigReader reader(json);
  ModelConfig config = parse_common(reader, slides);
  config.attention_bias = reader.boolean_or("qkv_bias", true);
  config.moe = parse_moe(reader, config);
  return checked(reader, std::move(config));
}

}  // namespace

extern const Family qwen2_moe_family;
const Family qwen2_moe_family = {"Qwen2MoeForCausalLM", "Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B", parse,
                                 visit_decoder, decoder_forward};

}  // namespace quench
