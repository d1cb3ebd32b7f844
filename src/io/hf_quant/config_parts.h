// What the quantization_config of several layouts needs: names of modules, and which setting most
// matrices have. Pure functions; any thread.
#pragma once

#include <functional>
#include <initializer_list>
#include <span>
#include <string>

#include "io/quant_writer.h"

namespace quench {

// The first of these settings that the config has and that is not null.
Json setting(const Json& config, std::initializer_list<const char*> keys, Json otherwise);
// "model.layers.0.mlp.up_proj.weight" -> "model.layers.0.mlp.up_proj".
std::string module_name(const std::string& matrix);
// f32, f16, bf16: a plain tensor.
bool is_plain(const Format& format);
// The look-up table of tokens, by the names of Qwen's families.
bool is_embedding(const std::string& matrix);
// An error when an embedding is quantized: these layouts have linear modules only.
Result<void> refuse_embedding(std::span<const WrittenMatrix> matrices, const char* layout);
// An error when quantized matrices have different formats, where the layout has one.
Result<void> require_one_format(std::span<const WrittenMatrix> matrices, const char* layout);
// The setting of the largest number of quantized matrices; null without any.
Json most_common(std::span<const WrittenMatrix> matrices,
                 const std::function<Json(const WrittenMatrix&)>& setting);
// Modules of the plain matrices but the embedding, which no layout expects to be quantized. A head
// that is tied to the embedding is a linear module to the libraries, and plain.
Json plain_modules(std::span<const WrittenMatrix> matrices);
std::string escape_regex(const std::string& text);

}  // namespace quench
