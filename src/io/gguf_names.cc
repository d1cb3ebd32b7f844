#include "io/gguf_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace quench {
namespace {

constexpr GgufFamily kFamilies[] = {
    {"qwen", "QWenLMHeadModel", "qwen", true, false, false},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", false, false, false},
    {"qwen2moe", "Qwen2MoeForCausalLM", "qwen2_moe", false, true, false},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", false, false, false},
    {"qwen3moe", "Qwen3MoeForCausalLM", "qwen3_moe", false, true, true},
};

// Without ".weight" or ".bias". '#' stands for the layer, '%' for the expert.
struct Names {
  const char* gguf;
  const char* hf;
};
constexpr Names kNames[] = {
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
    {"blk.#.attn_norm", "model.layers.#.input_layernorm"},
    {"blk.#.attn_q", "model.layers.#.self_attn.q_proj"},
    {"blk.#.attn_k", "model.layers.#.self_attn.k_proj"},
    {"blk.#.attn_v", "model.layers.#.self_attn.v_proj"},
    {"blk.#.attn_output", "model.layers.#.self_attn.o_proj"},
    {"blk.#.attn_q_norm", "model.layers.#.self_attn.q_norm"},
    {"blk.#.attn_k_norm", "model.layers.#.self_attn.k_norm"},
    {"blk.#.ffn_norm", "model.layers.#.post_attention_layernorm"},
    {"blk.#.ffn_gate", "model.layers.#.mlp.gate_proj"},
    {"blk.#.ffn_up", "model.layers.#.mlp.up_proj"},
    {"blk.#.ffn_down", "model.layers.#.mlp.down_proj"},
    {"blk.#.ffn_gate_inp", "model.layers.#.mlp.gate"},
    {"blk.#.ffn_gate_exps", "model.layers.#.mlp.experts.%.gate_proj"},
    {"blk.#.ffn_up_exps", "model.layers.#.mlp.experts.%.up_proj"},
    {"blk.#.ffn_down_exps", "model.layers.#.mlp.experts.%.down_proj"},
    {"blk.#.ffn_gate_shexp", "model.layers.#.mlp.shared_expert.gate_proj"},
    {"blk.#.ffn_up_shexp", "model.layers.#.mlp.shared_expert.up_proj"},
    {"blk.#.ffn_down_shexp", "model.layers.#.mlp.shared_expert.down_proj"},
    {"blk.#.ffn_gate_inp_shexp", "model.layers.#.mlp.shared_expert_gate"},
};
constexpr Names kFirstGenerationNames[] = {
    {"token_embd", "transformer.wte"},
    {"output_norm", "transformer.ln_f"},
    {"output", "lm_head"},
    {"blk.#.attn_norm", "transformer.h.#.ln_1"},
    {"blk.#.attn_qkv", "transformer.h.#.attn.c_attn"},
    {"blk.#.attn_output", "transformer.h.#.attn.c_proj"},
    {"blk.#.ffn_norm", "transformer.h.#.ln_2"},
    {"blk.#.ffn_gate", "transformer.h.#.mlp.w2"},
    {"blk.#.ffn_up", "transformer.h.#.mlp.w1"},
    {"blk.#.ffn_down", "transformer.h.#.mlp.c_proj"},
};

std::span<const Names> names_of(const GgufFamily& family) {
  if (family.first_generation) return kFirstGenerationNames;
  return kNames;
}

// What the two placeholders stood for.
struct Numbers {
  std::string_view layer;
  std::string_view expert;
};

// Takes the digits at the front: up to nine, no leading zero.
std::string_view take_number(std::string_view& text) {
  size_t count = 0;
  while (count < text.size() && count < 9 && text[count] >= '0' && text[count] <= '9') ++count;
  if (count > 1 && text[0] == '0') count = 0;
  const std::string_view digits = text.substr(0, count);
  text.remove_prefix(count);
  return digits;
}

std::optional<Numbers> match(std::string_view pattern, std::string_view text) {
  Numbers numbers;
  for (; !pattern.empty(); pattern.remove_prefix(1)) {
    if (pattern[0] == '#' || pattern[0] == '%') {
      std::string_view& number = pattern[0] == '#' ? numbers.layer : numbers.expert;
      number = take_number(text);
      if (number.empty()) return std::nullopt;
    } else if (text.empty() || text[0] != pattern[0]) {
      return std::nullopt;
    } else {
      text.remove_prefix(1);
    }
  }
  return text.empty() ? std::optional(numbers) : std::nullopt;
}

std::string fill(std::string_view pattern, const Numbers& numbers) {
  std::string text;
  for (const char c : pattern) {
    if (c == '#') {
      text += numbers.layer;
    } else if (c == '%') {
      text += numbers.expert;
    } else {
      text += c;
    }
  }
  return text;
}

// ".weight" or ".bias"; empty for anything else.
std::string_view take_suffix(std::string_view& name) {
  for (const std::string_view suffix : {".weight", ".bias"}) {
    if (!name.ends_with(suffix)) continue;
    name.remove_suffix(suffix.size());
    return suffix;
  }
  return {};
}

template <class Wanted>
const GgufFamily* find_family_if(Wanted wanted) {
  const auto it = std::find_if(std::begin(kFamilies), std::end(kFamilies), wanted);
  return it == std::end(kFamilies) ? nullptr : it;
}

}  // namespace

std::span<const GgufFamily> gguf_families() { return kFamilies; }

const GgufFamily* find_gguf_family(std::string_view name) {
  return find_family_if([&](const GgufFamily& family) { return family.name == name; });
}

const GgufFamily* gguf_family_of(std::string_view architecture) {
  return find_family_if(
      [&](const GgufFamily& family) { return family.architecture == architecture; });
}

std::optional<GgufPlace> gguf_place(const GgufFamily& family, std::string_view hf_name) {
  const std::string_view suffix = take_suffix(hf_name);
  for (const Names& names : names_of(family)) {
    const std::optional<Numbers> numbers = match(names.hf, hf_name);
    if (!numbers || suffix.empty()) continue;
    GgufPlace place;
    place.name = fill(names.gguf, *numbers) + std::string(suffix);
    if (!numbers->expert.empty()) place.expert = std::stoll(std::string(numbers->expert));
    return place;
  }
  return std::nullopt;
}

std::optional<std::string> hf_name_of(const GgufFamily& family, std::string_view gguf_name,
                                      int64_t expert) {
  const std::string_view suffix = take_suffix(gguf_name);
  const std::string expert_text = fmt::format("{}", expert);
  for (const Names& names : names_of(family)) {
    std::optional<Numbers> numbers = match(names.gguf, gguf_name);
    if (!numbers || suffix.empty()) continue;
    numbers->expert = expert_text;
    return fill(names.hf, *numbers) + std::string(suffix);
  }
  return std::nullopt;
}

bool is_expert_stack(std::string_view gguf_name) { return gguf_name.ends_with("_exps.weight"); }

}  // namespace quench
