#include "io/model_path.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "io/gguf.h"
#include "io/message.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Names of the directory's files that end so, sorted.
std::vector<std::string> files_ending(const std::string& dir, std::string_view ending) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (name.ends_with(ending)) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

// "owner/name" as on the Hugging Face hub, and nothing that looks like a path.
bool is_hub_id(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == text.size()) return false;
  if (text[0] == '.' || text[0] == '~' || text.find('/', slash + 1) != std::string_view::npos) {
    return false;
  }
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
           c == '.' || c == '-' || c == '_';
  });
}

Error error_of(ErrorCode code, std::string message) { return Error{code, std::move(message)}; }

Error gguf_error(const std::string& path) {
  return error_of(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: this directory holds no Hugging Face model, but there is {}; give "
                  "that file as the model.",
                  fs::path(path).parent_path().string(), path));
}

Error not_there_error(const std::string& path) {
  if (is_hub_id(path)) {
    const std::string name = path.substr(path.find('/') + 1);
    return error_of(
        ErrorCode::kNotFound,
        fmt::format("{0}: there is no such directory; it looks like a Hugging Face model id, and "
                    "quench downloads nothing: run `hf download {0} --local-dir {1}` and give {1} "
                    "as the model.",
                    path, name));
  }
  const bool names_file = path.ends_with(".gguf");
  return error_of(ErrorCode::kNotFound,
                  fmt::format("{}: there is no such {}; expected {} (config.json, tokenizer "
                              "files, *.safetensors).",
                              path, names_file ? "file" : "directory",
                              names_file ? "a GGUF file or a Hugging Face model directory"
                                         : "a Hugging Face model directory"));
}

Error file_error(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return error_of(
      ErrorCode::kInvalidArgument,
      fmt::format(
          "{}: this is no GGUF file, expected one or the directory of a model; perhaps {} is "
          "meant.",
          path, parent.empty() ? "." : parent.c_str()));
}

Error no_config_error(const std::string& dir) {
  if (file_exists(dir + "/adapter_config.json")) {
    return error_of(ErrorCode::kUnsupported,
                    fmt::format("{}: this is an adapter (adapter_config.json without config.json); "
                                "merge it into its base model and give the merged directory.",
                                dir));
  }
  if (is_directory(dir + "/snapshots")) {
    return error_of(ErrorCode::kNotFound,
                    fmt::format("{}: this is a cache folder of the Hugging Face hub; give the "
                                "folder of one revision below {}/snapshots.",
                                dir, dir));
  }
  const std::vector<std::string> gguf = files_ending(dir, ".gguf");
  if (!gguf.empty()) return gguf_error(dir + "/" + gguf[0]);
  return error_of(ErrorCode::kNotFound,
                  fmt::format("{}: there is no config.json; expected a Hugging Face model "
                              "directory (config.json, tokenizer files, *.safetensors).",
                              dir));
}

}  // namespace

Result<void> check_model_path(const std::string& path) {
  if (is_directory(path)) {
    if (file_exists(path + "/config.json")) return {};
    return tl::unexpected(no_config_error(path));
  }
  if (looks_like_gguf(path)) return {};
  return tl::unexpected(file_exists(path) ? file_error(path) : not_there_error(path));
}

Error no_weights_error(const std::string& dir) {
  if (file_exists(dir + "/pytorch_model.bin")) {
    return error_of(
        ErrorCode::kUnsupported,
        fmt::format(
            "{0}: the weights are only there as pytorch_model.bin, a pickle, which can run code "
            "when it is read; convert it inside that directory: python3 -c \"import torch, "
            "safetensors.torch as s; s.save_file({{k: v.clone().contiguous() for k, v in "
            "torch.load('pytorch_model.bin', map_location='cpu', weights_only=True).items()}}, "
            "'model.safetensors', {{'format': 'pt'}})\".",
            dir));
  }
  if (file_exists(dir + "/pytorch_model.bin.index.json")) {
    return error_of(
        ErrorCode::kUnsupported,
        fmt::format(
            "{0}: the weights are only there as pytorch_model-*.bin, pickles, which can run code "
            "when they are read; convert them: python3 -c \"from transformers import "
            "AutoModelForCausalLM as M; M.from_pretrained('{0}', dtype='auto')"
            ".save_pretrained('{0}')\".",
            dir));
  }
  const std::vector<std::string> stray = files_ending(dir, ".safetensors");
  if (!stray.empty()) {
    return error_of(ErrorCode::kNotFound,
                    fmt::format("{}: there is {}, but neither model.safetensors nor "
                                "model.safetensors.index.json; download the index too, or rename "
                                "a single file to model.safetensors.",
                                dir, first_names(stray)));
  }
  const std::vector<std::string> gguf = files_ending(dir, ".gguf");
  if (!gguf.empty()) return gguf_error(dir + "/" + gguf[0]);
  return error_of(ErrorCode::kNotFound,
                  fmt::format("{}: there are no weights; expected model.safetensors, or "
                              "model.safetensors.index.json and its shards.",
                              dir));
}

}  // namespace quench
