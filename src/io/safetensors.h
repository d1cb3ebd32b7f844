// Reader of one safetensors file: memory-mapped, validated in full before anything else happens.
// The file object owns the mapping; the entries' data points into it and is valid as long as the
// object (or what it was moved to) lives. Reading is const: any thread.
// Format: https://github.com/huggingface/safetensors, README, "Format".
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "io/dtype.h"

namespace quench {

struct TensorEntry {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;       // outermost first; empty for a scalar
  std::span<const std::byte> data;  // row-major, little-endian, any alignment
  int64_t offset_bytes = 0;         // of `data` in its file
  int file_index = 0;               // into Checkpoint::files(); 0 in a single file
};

constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;  // the format's own limit

class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::string& path);
  // The same for bytes in memory, which must outlive the object. `where` stands for the path in
  // messages.
  static Result<SafetensorsFile> parse(std::span<const std::byte> bytes, std::string_view where);

  // In the order of their data.
  const std::vector<TensorEntry>& entries() const { return entries_; }
  // The header's "__metadata__".
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // Null when there is none of that name.
  const TensorEntry* find(std::string_view name) const;
  const std::string& path() const { return path_; }
  // Of the whole file, header included.
  std::span<const std::byte> bytes() const { return bytes_; }
  // Hands the mapping over. The entries' data stays valid as long as the mapping.
  MappedFile release() { return std::move(file_); }

 private:
  std::string path_;
  MappedFile file_;
  std::span<const std::byte> bytes_;
  std::vector<TensorEntry> entries_;
  std::vector<int> by_name_;  // indices into entries_
  std::map<std::string, std::string> metadata_;
};

}  // namespace quench
