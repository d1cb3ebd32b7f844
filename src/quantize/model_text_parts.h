// What a model directory has beside config and weights: tokenizer, chat template, settings.
#pragma once

#include "engine/model_files.h"
#include "io/checkpoint_writer.h"

namespace quench {

// Copies the files of a directory, weights and config.json left out; writes those that a GGUF file
// has inside. Nothing for a shape without files. kUnsupported: a GGUF file of Qwen of 2023, whose
// tokenizer file has another form.
Result<void> add_model_text(const ModelFiles& files, CheckpointWriter& writer);
// The same error before anything is written.
Result<void> check_model_text(const ModelFiles& files);

}  // namespace quench
