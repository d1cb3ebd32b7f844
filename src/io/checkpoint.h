// A published model: a Hugging Face directory with its config, tokenizer files and safetensors
// weights (one file, or shards with an index), or a GGUF file, which is described in the same words
// (gguf_model.h). It knows no model family: what the tensors mean is decided above. The object owns
// the mappings; entries and their data live as long as it does. All methods are const: any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "io/gguf.h"
#include "io/safetensors.h"

namespace quench {

struct WeightIndex;

enum class Weights {
  kRequired,  // no or incomplete weights are an error
  kOptional,  // absent or incomplete weights leave has_weights() false; damaged ones are an error
  kIgnored,   // weight files are not looked at (tokenize)
};

class Checkpoint {
 public:
  // `dir` as the user typed it; everything that is no usable model directory gets its own message.
  // model.safetensors wins over model.safetensors.index.json, as in transformers. `dir` may be a
  // GGUF file, or any part of one that is split.
  static Result<Checkpoint> open(const std::string& dir, Weights need);

  const std::string& dir() const { return dir_; }
  // The keys of a GGUF file; null for a directory.
  const GgufFile* gguf() const { return gguf_.get(); }
  // The path of a file of the directory, whether it exists or not: "tokenizer.json".
  std::string file_path(std::string_view name) const;

  const Json& config() const { return config_; }
  // generation_config.json; an empty object if there is none.
  const Json& generation_config() const { return generation_config_; }
  // config.json's "quantization_config" (or "compression_config", its old name); null if there is
  // none. A loader that cannot decode it must refuse the model.
  const Json* quantization_config() const;

  bool has_weights() const { return !files_.empty(); }
  // All tensors of all shards, sorted by name. Empty without weights.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  const TensorEntry* find(std::string_view name) const;
  // Sum of the tensors' bytes.
  int64_t weight_bytes() const;
  // The shards, sorted by name. A TensorEntry's file_index points here.
  const std::vector<MappedFile>& files() const { return files_; }

  // Names the weights by content. One file: its SHA-256, as sha256sum and the hub show it. Shards:
  // the SHA-256 of the lines that `sha256sum *.safetensors` prints for them in name order. Reads
  // every byte once (shards in parallel on `num_threads`), then remembers.
  Result<std::string> sha256(int num_threads = 1) const;

  // The tensor's pages are not needed again soon.
  void drop(const TensorEntry& tensor) const;
  // Nor are these bytes of it; a page that they only begin or end in stays.
  void drop(const TensorEntry& tensor, int64_t offset_bytes, int64_t length_bytes) const;

 private:
  struct Digest;  // remembered result of sha256()

  Result<void> open_gguf();
  Result<void> open_weights(Weights need);
  Result<void> open_shards(const std::string& index_path, Weights need);
  Result<void> check_index(const WeightIndex& index) const;
  void sort_tensors();

  std::string dir_;
  Json config_;
  Json generation_config_ = Json::object();
  std::vector<MappedFile> files_;
  std::vector<std::string> file_names_;  // of files_, below dir_
  std::vector<TensorEntry> tensors_;
  std::shared_ptr<Digest> digest_;
  std::shared_ptr<const GgufFile> gguf_;  // the first part
};

}  // namespace quench
