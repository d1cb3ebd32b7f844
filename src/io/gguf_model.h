// What a GGUF file says about a model, in the words of a Hugging Face checkpoint: config.json and
// generation_config.json made from its keys, tensors by their Hugging Face names. Quantized tensors
// appear as quench's own checkpoints hold them ("X.weight.q4_k.blocks", see hf_quant/quench.cc),
// because a GGUF type is the one plane of a Format. Nothing is copied; pure functions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "io/gguf.h"
#include "io/safetensors.h"

namespace quench {

struct GgufModel {
  Json config;
  Json generation_config;
  std::vector<TensorEntry> tensors;  // file_index counts `files`; unknown names as in the file
};

// `files`: one, or the parts of a split model in order. The first has the keys.
Result<GgufModel> describe_gguf(std::span<const GgufFile> files);

// The paths of all parts when the file is one of a split model ("x-00001-of-00003.gguf"), else the
// path alone.
std::vector<std::string> gguf_part_paths(const std::string& path);

}  // namespace quench
