// Files: read whole, map read-only, write atomically (temporary name, fsync, rename).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace quench {

// The whole file as bytes. For files of some megabytes; weights are mapped.
Result<std::string> read_file(const std::string& path);
// A file in /proc or /sys: they have no length, so read_file() does not serve. Empty: not there.
std::string read_proc(const std::string& path);

// Writes `path` so that at every moment either the old or the complete new file is there.
Result<void> write_file_atomic(const std::string& path, std::string_view bytes);

bool file_exists(const std::string& path);
bool is_directory(const std::string& path);
// A directory with all that is in it; nothing where there is none.
Result<void> remove_directory(const std::string& dir);

// A read-only mapping. Move-only; unmapped by the destructor. Any thread may read. A file that
// another process truncates while it is mapped raises SIGBUS on access, as with every memory-mapped
// reader.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_bytes_)}; }
  const std::string& path() const { return path_; }
  // Tells the kernel that these pages are not needed again soon (after their weights are packed).
  void drop(int64_t offset_bytes, int64_t length_bytes) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

}  // namespace quench
