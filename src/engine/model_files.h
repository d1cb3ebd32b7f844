// ModelFiles: what the user's MODEL argument stands for. A directory, a GGUF file, "demo" (the
// model that ships), or with random weights also the name of an official model from the table of
// shapes (models/shapes.json).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "io/checkpoint.h"
#include "models/family.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace quench {

struct ModelFiles {
  std::string name;  // last part of the path, or the official name
  std::string dir;   // or the GGUF file; empty for a shape without files
  Json config_json;
  Json generation_json = Json::object();
  const Family* family = nullptr;
  ModelConfig config;
  std::optional<Checkpoint> checkpoint;  // absent for a shape without files

  // need: whether weight files must be there, may be there, or are not looked at.
  static Result<ModelFiles> find(const std::string& model, Weights need, bool random_weights);
};

// The tokenizer beside the model; the demo's when the model is a shape without files. An error when
// its ids do not fit the embedding.
Result<Tokenizer> load_tokenizer(const ModelFiles& files);

// The model's chat template, or the one named by `override_name` (see ChatTemplate::names()). An
// unknown template of a checkpoint is an error that lists the names.
Result<ChatTemplate> load_chat_template(const ModelFiles& files, const std::string& override_name);
// For texts that hold conversations, and to measure: the model's own, or Qwen2.5's for base models,
// whose vocabularies have its marks as well.
Result<ChatTemplate> load_text_template(const ModelFiles& files);
// Its Jinja source, known or not; nothing where the model has none.
Result<std::optional<std::string>> chat_template_source(const ModelFiles& files);

}  // namespace quench
