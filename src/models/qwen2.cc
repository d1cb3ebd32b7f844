// Qwen1.5, Qwen2, Qwen2.5 dense: bias on q, k and v, none elsewhere.
#include "models/blocks.h"

namespace quench {
namespace {

Result<ModelConfig> parse(const Json& json) {
  ConfigReader reader(json);
  ModelConfig config = parse_common(reader);
  config.attention_bias = true;
  return checked(reader, std::move(config));
}

}  // namespace

extern const Family qwen2_family;
const Family qwen2_family = {"Qwen2ForCausalLM", "Qwen1.5, Qwen2, Qwen2.5 dense", parse,
                             visit_decoder, decoder_forward};

}  // namespace quench
