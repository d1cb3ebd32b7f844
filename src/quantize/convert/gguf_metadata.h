// The keys of a GGUF file for a model: sizes, rotary embedding, experts, sampling defaults,
// tokenizer and chat template, as llama.cpp reads them. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "engine/model_files.h"
#include "formats/format.h"
#include "io/gguf_names.h"
#include "io/gguf_writer.h"

namespace quench {

// kUnsupported for what a GGUF file cannot say and llama.cpp would silently get wrong. `notes`
// receives what only quench will read from the file.
Result<GgufKeys> make_gguf_keys(const ModelFiles& files, const GgufFamily& family,
                                const Format& main_format, std::vector<std::string>& notes);

}  // namespace quench
