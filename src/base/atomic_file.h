// A file that is written in pieces and appears under its name only when it is complete: no name
// while it is written, where the file system can do that, so that nothing stays when the process is
// killed; else a temporary one in the same directory. Then fsync and rename. The object owns the
// temporary file and removes it unless commit() succeeded. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace quench {

class AtomicFile {
 public:
  // `expected_bytes`: reserved on the disk at once where the file system can, so that a full disk
  // shows before hours of work and not after; 0 when the size is not known.
  static Result<AtomicFile> create(const std::string& path, int64_t expected_bytes);
  AtomicFile() = default;
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  Result<void> write_at(int64_t offset_bytes, std::span<const std::byte> bytes);
  // Makes the file durable and visible. Nothing may be written afterwards.
  Result<void> commit();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  bool is_named_ = false;  // the temporary name exists
};

}  // namespace quench
