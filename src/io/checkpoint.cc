#include "io/checkpoint.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/threads.h"
#include "io/gguf_model.h"
#include "io/message.h"
#include "io/model_path.h"
#include "io/weight_index.h"

namespace quench {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kFetchAgain = "download all of them again from one revision";

Result<Json> read_json_object(const std::string& path) {
  QUENCH_TRY(Json json, read_json_file(path));
  if (!json.is_object()) {
    return fail(ErrorCode::kInvalidFile, "{}: it holds {} {}, expected a JSON object.", path,
                json.is_array() ? "an" : "a", json.type_name());
  }
  return json;
}

// Hashes a mapping piece by piece and gives its pages back, so that a 100 GB file needs little
// memory.
std::string hash_file(const MappedFile& file) {
  constexpr size_t kPieceBytes = size_t{16} << 20;
  Sha256 hash;
  const std::span<const std::byte> bytes = file.bytes();
  for (size_t begin = 0; begin < bytes.size(); begin += kPieceBytes) {
    const auto piece = bytes.subspan(begin, std::min(kPieceBytes, bytes.size() - begin));
    hash.update(piece);
    file.drop(static_cast<int64_t>(begin), static_cast<int64_t>(piece.size()));
  }
  return hash.hex_digest();
}

}  // namespace

struct Checkpoint::Digest {
  std::mutex mutex;
  std::optional<std::string> hex;
};

Result<Checkpoint> Checkpoint::open(const std::string& dir, Weights need) {
  QUENCH_TRY_VOID(check_model_path(dir));
  Checkpoint checkpoint;
  checkpoint.dir_ = dir;
  checkpoint.digest_ = std::make_shared<Digest>();
  if (looks_like_gguf(dir)) {
    QUENCH_TRY_VOID(checkpoint.open_gguf());
    return checkpoint;
  }
  QUENCH_TRY(checkpoint.config_, read_json_object(checkpoint.file_path("config.json")));
  for (const char* key : {"quantization_config", "compression_config"}) {
    const auto it = checkpoint.config_.find(key);
    if (it != checkpoint.config_.end() && !it->is_null() && !it->is_object()) {
      return fail(ErrorCode::kInvalidFile, "{}: \"{}\" is a {}, expected an object.",
                  checkpoint.file_path("config.json"), key, it->type_name());
    }
  }
  const std::string generation_path = checkpoint.file_path("generation_config.json");
  if (file_exists(generation_path)) {
    QUENCH_TRY(checkpoint.generation_config_, read_json_object(generation_path));
  }
  if (need != Weights::kIgnored) QUENCH_TRY_VOID(checkpoint.open_weights(need));
  return checkpoint;
}

std::string Checkpoint::file_path(std::string_view name) const {
  return fmt::format("{}{}{}", dir_, dir_.ends_with('/') ? "" : "/", name);
}

const Json* Checkpoint::quantization_config() const {
  for (const char* key : {"quantization_config", "compression_config"}) {
    const auto it = config_.find(key);
    if (it != config_.end() && it->is_object()) return &*it;
  }
  return nullptr;
}

Result<void> Checkpoint::open_gguf() {
  const std::vector<std::string> paths = gguf_part_paths(dir_);
  for (const std::string& path : paths) {
    if (file_exists(path)) continue;
    return fail(ErrorCode::kNotFound,
                "{}: a part of the model is not there: {}; finish the download.", dir_, path);
  }
  std::vector<GgufFile> parts;
  for (const std::string& path : paths) {
    QUENCH_TRY(GgufFile part, GgufFile::open(path));
    parts.push_back(std::move(part));
    file_names_.push_back(std::filesystem::path(path).filename().string());
  }
  QUENCH_TRY(GgufModel model, describe_gguf(parts));
  config_ = std::move(model.config);
  generation_config_ = std::move(model.generation_config);
  tensors_ = std::move(model.tensors);
  sort_tensors();
  for (GgufFile& part : parts) files_.push_back(part.release());
  gguf_ = std::make_shared<const GgufFile>(std::move(parts.front()));
  return {};
}

Result<void> Checkpoint::open_weights(Weights need) {
  const std::string single_path = file_path(kSingleFile);
  const std::string index_path = file_path(kIndexFile);
  if (file_exists(single_path)) {
    if (file_exists(index_path)) {
      spdlog::warn("{}: has both {} and {}; the first is used, as in transformers", dir_,
                   kSingleFile, kIndexFile);
    }
    QUENCH_TRY(SafetensorsFile file, SafetensorsFile::open(single_path));
    tensors_ = file.entries();
    sort_tensors();
    files_.push_back(file.release());
    file_names_.emplace_back(kSingleFile);
  } else if (file_exists(index_path)) {
    QUENCH_TRY_VOID(open_shards(index_path, need));
  } else if (need == Weights::kRequired) {
    return tl::unexpected(no_weights_error(dir_));
  }
  return {};
}

Result<void> Checkpoint::open_shards(const std::string& index_path, Weights need) {
  QUENCH_TRY(const std::string text, read_file(index_path));
  QUENCH_TRY(const WeightIndex index, parse_weight_index(text, index_path));
  std::set<std::string> shard_names;
  for (const auto& [tensor, shard] : index.weight_map) shard_names.insert(shard);
  std::vector<std::string> missing;
  for (const std::string& name : shard_names) {
    if (!file_exists(file_path(name))) missing.push_back(name);
  }
  if (!missing.empty()) {
    if (need == Weights::kOptional) {
      spdlog::info("{}: {} of {} weight files are not there", dir_, missing.size(),
                   shard_names.size());
      return {};
    }
    return fail(ErrorCode::kNotFound,
                "{}: {} of the {} weight files that {} names are not there ({}); finish the "
                "download.",
                dir_, missing.size(), shard_names.size(), kIndexFile, first_names(missing));
  }

  for (const std::string& name : shard_names) {
    QUENCH_TRY(SafetensorsFile file, SafetensorsFile::open(file_path(name)));
    for (const TensorEntry& entry : file.entries()) {
      tensors_.push_back(entry);
      tensors_.back().file_index = static_cast<int>(files_.size());
    }
    files_.push_back(file.release());
    file_names_.push_back(name);
  }
  sort_tensors();
  QUENCH_TRY_VOID(check_index(index));
  if (index.total_size_bytes && *index.total_size_bytes != weight_bytes()) {
    spdlog::warn("{}: total_size is {} bytes, but the tensors have {}", index_path,
                 *index.total_size_bytes, weight_bytes());
  }
  return {};
}

void Checkpoint::sort_tensors() {
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::tie(a.name, a.file_index) < std::tie(b.name, b.file_index);
  });
}

Result<void> Checkpoint::check_index(const WeightIndex& index) const {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorEntry& tensor = tensors_[i];
    const std::string& shard = file_names_[static_cast<size_t>(tensor.file_index)];
    if (i > 0 && tensors_[i - 1].name == tensor.name) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: tensor {} is in {} and in {}, expected it in one shard; the files do not "
                  "belong together: {}.",
                  dir_, in_quotes(tensor.name),
                  file_names_[static_cast<size_t>(tensors_[i - 1].file_index)], shard, kFetchAgain);
    }
    const auto listed = index.weight_map.find(tensor.name);
    if (listed == index.weight_map.end() || listed->second != shard) {
      return fail(
          ErrorCode::kInvalidFile,
          "{}: the shard has tensor {}, but {} {}; the files do not belong together: {}.",
          file_path(shard), in_quotes(tensor.name), kIndexFile,
          listed == index.weight_map.end() ? "does not list it" : "says it is in " + listed->second,
          kFetchAgain);
    }
  }
  for (const auto& [name, shard] : index.weight_map) {
    if (find(name) != nullptr) continue;
    return fail(ErrorCode::kInvalidFile,
                "{}: tensor {} is not in this shard, although {} says so; the files do not belong "
                "together: {}.",
                file_path(shard), in_quotes(name), kIndexFile, kFetchAgain);
  }
  return {};
}

const TensorEntry* Checkpoint::find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorEntry& a, std::string_view wanted) { return a.name < wanted; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

int64_t Checkpoint::weight_bytes() const {
  int64_t total = 0;  // cannot overflow: each shard is a mapped file
  for (const TensorEntry& tensor : tensors_) total += static_cast<int64_t>(tensor.data.size());
  return total;
}

Result<std::string> Checkpoint::sha256(int num_threads) const {
  if (!has_weights()) {
    return fail(ErrorCode::kNotFound, "{}: there are no weights to hash.", dir_);
  }
  const std::lock_guard lock(digest_->mutex);
  if (digest_->hex) return *digest_->hex;
  std::vector<std::string> digests(files_.size());
  std::atomic<size_t> next{0};
  ThreadTeam team(std::clamp(num_threads, 1, static_cast<int>(files_.size())));
  team.run([&](const Worker&) {
    for (size_t i = next.fetch_add(1); i < files_.size(); i = next.fetch_add(1)) {
      digests[i] = hash_file(files_[i]);
    }
  });
  if (files_.size() == 1) {
    digest_->hex = digests[0];
  } else {
    std::string lines;
    for (size_t i = 0; i < files_.size(); ++i) {
      lines += fmt::format("{}  {}\n", digests[i], file_names_[i]);
    }
    digest_->hex = sha256_hex(std::as_bytes(std::span(lines)));
  }
  return *digest_->hex;
}

void Checkpoint::drop(const TensorEntry& tensor) const {
  drop(tensor, 0, static_cast<int64_t>(tensor.data.size()));
}

void Checkpoint::drop(const TensorEntry& tensor, int64_t offset_bytes, int64_t length_bytes) const {
  files_[static_cast<size_t>(tensor.file_index)].drop(tensor.offset_bytes + offset_bytes,
                                                      length_bytes);
}

}  // namespace quench
