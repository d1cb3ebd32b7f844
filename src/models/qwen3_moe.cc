// Qwen3 mixture of experts: as Qwen3, experts without a shared one.
#include "models/blocks.h"

namespace quench {
namespace {

// transformers 5 gives every layer the window here, whatever max_window_layers says.
bool slides(int64_t, int64_t) { return true; }

Result<ModelConfig> parse(const Json& json) {
  ConfigReader reader(json);
  ModelConfig config = parse_common(reader, slides);
  config.qk_norm = true;
  config.attention_bias = reader.boolean_or("attention_bias", false);
  config.attention_output_bias = config.attention_bias;
  config.moe = parse_moe(reader, config);
  config.moe.shared_expert_intermediate_size = 0;
  return checked(reader, std::move(config));
}

}  // namespace

extern const Family qwen3_moe_family;
const Family qwen3_moe_family = {"Qwen3MoeForCausalLM", "Qwen3-30B-A3B, Qwen3-235B-A22B", parse,
                                 visit_decoder, decoder_forward};

}  // namespace quench
