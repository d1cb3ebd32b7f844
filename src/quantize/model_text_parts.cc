#include "quantize/model_text_parts.h"

#include <filesystem>

#include "base/file.h"
#include "engine/gguf_text.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

bool is_weights_file(const std::string& name) {
  return name.find(".safetensors") != std::string::npos || name.ends_with(".bin") ||
         name.ends_with(".gguf") || name.ends_with(".pt") || name.ends_with(".pth");
}

Result<void> add_text(const std::string& name, const std::string& text, CheckpointWriter& writer) {
  return writer.add_file(name, std::as_bytes(std::span(text)));
}

}  // namespace

Result<void> check_model_text(const ModelFiles& files) {
  const GgufFile* gguf = files.checkpoint ? files.checkpoint->gguf() : nullptr;
  if (gguf != nullptr) QUENCH_TRY_VOID(gguf_text_files(*gguf));
  return {};
}

Result<void> add_model_text(const ModelFiles& files, CheckpointWriter& writer) {
  if (files.dir.empty()) return {};
  if (const GgufFile* gguf = files.checkpoint->gguf()) {
    QUENCH_TRY(const auto texts, gguf_text_files(*gguf));
    for (const auto& [name, text] : texts) QUENCH_TRY_VOID(add_text(name, text, writer));
    if (files.generation_json.empty()) return {};
    return add_text("generation_config.json", files.generation_json.dump(2) + "\n", writer);
  }
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(files.dir, error)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || name == "config.json" || name.starts_with(".") ||
        is_weights_file(name))
      continue;
    QUENCH_TRY(const std::string bytes, read_file(entry.path().string()));
    QUENCH_TRY_VOID(add_text(name, bytes, writer));
  }
  return {};
}

}  // namespace quench
