// The names of tensors and model families in GGUF files (llama.cpp's), and those of Hugging Face
// that quench uses everywhere. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace quench {

struct GgufFamily {
  const char* name;          // "general.architecture": "qwen2"
  const char* architecture;  // of config.json: "Qwen2ForCausalLM"
  const char* model_type;    // of config.json
  bool first_generation;     // Qwen of 2023: other tensor names
  bool has_experts;
  bool norm_topk_prob;  // what llama.cpp does, whatever the file says
};
std::span<const GgufFamily> gguf_families();
const GgufFamily* find_gguf_family(std::string_view name);
const GgufFamily* gguf_family_of(std::string_view architecture);

// A tensor of a GGUF file: one of the model, or one expert's part of a stack [experts, rows, cols].
struct GgufPlace {
  std::string name;
  int64_t expert = -1;  // -1: all of it
};
// Where "model.layers.3.mlp.experts.7.up_proj.weight" lies: {"blk.3.ffn_up_exps.weight", 7}.
// Nothing for names that the family does not have.
std::optional<GgufPlace> gguf_place(const GgufFamily& family, std::string_view hf_name);
// The reverse. `expert` is used where the name is one of a stack.
std::optional<std::string> hf_name_of(const GgufFamily& family, std::string_view gguf_name,
                                      int64_t expert);
bool is_expert_stack(std::string_view gguf_name);

}  // namespace quench
