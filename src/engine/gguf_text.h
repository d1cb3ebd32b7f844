// The tokenizer and the chat template that a GGUF file carries in its keys. Pure functions; any
// thread.
#pragma once

#include "base/result.h"
#include "io/gguf.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace quench {

// "tokenizer.ggml.token_type" of a token.
enum class GgufTokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

Result<Tokenizer> gguf_tokenizer(const GgufFile& file);
// kNotFound where the file has no template (a base model), kUnsupported where it is an unknown one.
Result<ChatTemplate> gguf_chat_template(const GgufFile& file);

// The same as the files of a model directory, by name: vocab.json, merges.txt and
// tokenizer_config.json. kUnsupported for Qwen of 2023, which has them in a file of another form.
Result<std::vector<std::pair<std::string, std::string>>> gguf_text_files(const GgufFile& file);

}  // namespace quench
