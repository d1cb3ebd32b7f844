// What the user typed as MODEL, when it is no model directory that quench can use: one message for
// each thing it may be instead. Reads the file system; any thread.
#pragma once

#include <string>

#include "base/result.h"

namespace quench {

// Nothing if `path` is a directory with a config.json.
Result<void> check_model_path(const std::string& path);

// The error for a model directory that has neither model.safetensors nor its index.
Error no_weights_error(const std::string& dir);

}  // namespace quench
