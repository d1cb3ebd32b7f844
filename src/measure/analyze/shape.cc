#include "measure/analyze/shape.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/letters.h"
#include "engine/model_files.h"

namespace quench {
namespace {

// Longer endings first.
constexpr std::array<std::pair<const char*, const char*>, 9> kEndings = {
    {{"-GPTQ-Int8", "gptq-int8"},
     {"-GPTQ-Int4", "gptq-int4"},
     {"-Int8", "gptq-int8"},
     {"-Int4", "gptq-int4"},
     {"-AWQ", "awq"},
     {"-FP8", "fp8"},
     {"-Chat", ""},
     {"-Instruct", ""},
     {"-Base", ""}}};

// The name without its endings, and the first precision among them.
std::pair<std::string, std::string> split_name(std::string name) {
  std::string precision;
  for (bool again = true; again;) {
    again = false;
    for (const auto& [ending, meaning] : kEndings) {
      const std::string_view text = ending;
      if (name.size() <= text.size() || !small_letters(name).ends_with(small_letters(ending)))
        continue;
      name.resize(name.size() - text.size());
      if (precision.empty()) precision = meaning;
      again = true;
    }
  }
  return {name, precision};
}

}  // namespace

double ModelShape::kv_values_per_token() const {
  return 2.0 * layers() * static_cast<double>(config.kv_dim());
}

double ModelShape::head_repeat() const {
  return static_cast<double>(config.num_attention_heads) /
         static_cast<double>(config.num_key_value_heads);
}

std::string precision_in_name(const std::string& model) { return split_name(model).second; }

Result<ModelShape> find_shape(const std::string& model) {
  auto files = ModelFiles::find(model, Weights::kOptional, true);
  if (!files) {
    const std::string name = split_name(model).first;
    if (name == model) return tl::unexpected(files.error());
    auto shorter = ModelFiles::find(name, Weights::kOptional, true);
    if (!shorter) return tl::unexpected(shorter.error());
    files = std::move(shorter);
  }
  ModelShape shape;
  shape.name = files->name;
  shape.config = files->config;
  files->family->tensors(files->config, [&](const TensorSpec& spec) {
    const double weights = static_cast<double>(spec.rows) * static_cast<double>(spec.cols);
    shape.parameters += weights;
    if (spec.role == Role::kEmbedding) shape.head_weights = weights;
    if (spec.layer < 0 || !role_row(spec.role).is_matrix) return;
    shape.layer_weights += weights;
    if (spec.expert >= 0) shape.expert_weights += weights;
  });
  const MoeConfig& moe = shape.config.moe;
  const double share = moe.num_experts > 0 ? static_cast<double>(moe.num_experts_per_tok) /
                                                 static_cast<double>(moe.num_experts)
                                           : 1.0;
  shape.active_weights = shape.layer_weights - shape.expert_weights * (1.0 - share);
  return shape;
}

}  // namespace quench
