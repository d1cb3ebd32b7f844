// Qwen3 dense: RMSNorm on each query and key head before rope, head_dim apart from hidden_size, no
// bias.
#include "models/blocks.h"

namespace quench {
namespace {

Result<ModelConfig> parse(const Json& json) {
  ConfigReader reader(json);
  ModelConfig config = parse_common(reader);
  config.qk_norm = true;
  config.attention_bias = reader.boolean_or("attention_bias", false);
  config.attention_output_bias = config.attention_bias;
  return checked(reader, std::move(config));
}

}  // namespace

extern const Family qwen3_family;
const Family qwen3_family = {"Qwen3ForCausalLM", "Qwen3 0.6B to 32B", parse, visit_decoder,
                             decoder_forward};

}  // namespace quench
