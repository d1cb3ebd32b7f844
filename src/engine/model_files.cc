#include "engine/model_files.h"

#include <fmt/ranges.h>

#include <filesystem>

#include "base/letters.h"
#include "base/paths.h"
#include "engine/gguf_text.h"

namespace quench {
namespace {

// The name as published, and its config.json. models/shapes.json: {"source": ..., "models": {NAME:
// config.json}}.
Result<std::pair<std::string, Json>> official_shape(const std::string& name) {
  QUENCH_TRY(const std::string path, data_path("models/shapes.json"));
  QUENCH_TRY(Json table, read_json_file(path));
  const auto models = table.find("models");
  if (models == table.end() || !models->is_object()) {
    return fail(ErrorCode::kInvalidFile, "{}: expected an object \"models\".", path);
  }
  std::vector<std::string> names;
  for (const auto& [key, value] : models->items()) {
    if (small_letters(key) == small_letters(name)) return std::pair(key, value);
    names.push_back(key);
  }
  return fail(ErrorCode::kNotFound,
              "\"{}\" is neither a model directory or GGUF file nor the name of an official shape; "
              "the shapes are {}.",
              name, fmt::join(names, ", "));
}

std::string last_part(const std::string& path) {
  std::filesystem::path p = std::filesystem::path(path).lexically_normal();
  if (!p.has_filename()) p = p.parent_path();
  return p.filename().string();
}

}  // namespace

Result<ModelFiles> ModelFiles::find(const std::string& model, Weights need, bool random_weights) {
  ModelFiles files;
  files.name = last_part(model);
  if (random_weights && model != "demo" && !is_directory(model) && !file_exists(model)) {
    // "Qwen/Qwen2.5-7B" is how people know it.
    const bool has_owner = small_letters(model).starts_with("qwen/");
    QUENCH_TRY(auto shape, official_shape(has_owner ? model.substr(5) : model));
    files.name = std::move(shape.first);
    files.config_json = std::move(shape.second);
  } else {
    files.dir = model;
    if (model == "demo" && !is_directory(model)) {
      QUENCH_TRY(files.dir, data_path("models/demo"));
    }
    if (!is_directory(files.dir) && !file_exists(files.dir) && official_shape(model)) {
      return fail(ErrorCode::kNotFound,
                  "{}: there is no such directory; it is the name of an official model: give the "
                  "directory of its files, or add --random-weights to go without them.",
                  model);
    }
    QUENCH_TRY(files.checkpoint, Checkpoint::open(files.dir, need));
    files.config_json = files.checkpoint->config();
    files.generation_json = files.checkpoint->generation_config();
  }
  auto located = [&](Error error) {
    if (!files.dir.empty() && error.message.starts_with("config.json")) {
      const bool made_up = files.checkpoint && files.checkpoint->gguf() != nullptr;
      error.message = files.dir + (made_up ? ": its keys as a " : "/") + error.message;
    }
    return tl::unexpected(std::move(error));
  };
  const auto family = find_family(files.config_json);
  if (!family) return located(family.error());
  files.family = *family;
  auto config = files.family->parse(files.config_json);
  if (!config) return located(config.error());
  files.config = *std::move(config);
  files.config.architecture = files.family->architecture;
  return files;
}

Result<Tokenizer> load_tokenizer(const ModelFiles& files) {
  if (files.dir.empty()) {
    QUENCH_TRY(const std::string demo, data_path("models/demo"));
    return Tokenizer::load(demo);
  }
  const GgufFile* gguf = files.checkpoint ? files.checkpoint->gguf() : nullptr;
  QUENCH_TRY(Tokenizer tokenizer,
             gguf != nullptr ? gguf_tokenizer(*gguf) : Tokenizer::load(files.dir));
  if (tokenizer.vocab_size() > files.config.vocab_size) {
    return fail(ErrorCode::kInvalidFile,
                "{}: the tokenizer has ids up to {}, but the embedding has {} rows; the files "
                "belong to different models.",
                files.dir, tokenizer.vocab_size() - 1, files.config.vocab_size);
  }
  return tokenizer;
}

Result<ChatTemplate> load_chat_template(const ModelFiles& files, const std::string& override_name) {
  if (!override_name.empty()) return ChatTemplate::by_name(override_name);
  if (files.checkpoint && files.checkpoint->gguf() != nullptr)
    return gguf_chat_template(*files.checkpoint->gguf());
  if (!files.dir.empty()) return ChatTemplate::find(files.dir);
  QUENCH_TRY(const std::string demo, data_path("models/demo"));  // whose tokenizer serves as well
  return ChatTemplate::find(demo);
}

Result<ChatTemplate> load_text_template(const ModelFiles& files) {
  if (files.checkpoint) {
    QUENCH_TRY(const auto own, chat_template_source(files));
    if (!own) return ChatTemplate::by_name("qwen2.5");
  }
  return load_chat_template(files, "");
}

Result<std::optional<std::string>> chat_template_source(const ModelFiles& files) {
  if (files.checkpoint && files.checkpoint->gguf() != nullptr) {
    const Json jinja = files.checkpoint->gguf()->value("tokenizer.chat_template");
    if (!jinja.is_string()) return std::nullopt;
    return jinja.get<std::string>();
  }
  return ChatTemplate::source(files.dir);
}

}  // namespace quench
