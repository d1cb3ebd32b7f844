#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace quench {
namespace {

tl::unexpected<Error> write_error(const char* what, const std::string& path) {
  const int error = errno;
  return fail(error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
              "{}: cannot {}: {}; nothing of this file was left behind.", path, what,
              std::strerror(error));
}

std::string directory_of(const std::string& path) {
  std::string directory = std::filesystem::path(path).parent_path().string();
  return directory.empty() ? "." : directory;
}

std::string link_of(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

// A file without a name, which goes with the process however that ends; -1 where the file system
// has no such files, or nothing gives them a name later.
int open_nameless(const std::string& path) {
  const int fd = ::open(directory_of(path).c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
  if (fd < 0 || ::access(link_of(fd).c_str(), F_OK) == 0) return fd;
  ::close(fd);
  return -1;
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::string& path, int64_t expected_bytes) {
  static std::atomic<int> serial{0};
  // A rename would replace a device node such as /dev/full by a file.
  struct stat existing;
  if (::stat(path.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode)) {
    return fail(ErrorCode::kInvalidArgument,
                "{}: this is not a regular file; give the path of the file to write.", path);
  }
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = fmt::format("{}.{}.{}.tmp", path, ::getpid(), serial.fetch_add(1));
  file.fd_ = open_nameless(path);
  if (file.fd_ < 0) {
    file.fd_ = ::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file.fd_ < 0) return write_error("create a file beside it", path);
    file.is_named_ = true;
  }
  if (expected_bytes > 0 && ::fallocate(file.fd_, FALLOC_FL_KEEP_SIZE, 0, expected_bytes) != 0 &&
      (errno == ENOSPC || errno == EFBIG || errno == EDQUOT)) {
    return write_error(fmt::format("reserve {} bytes on its disk", expected_bytes).c_str(), path);
  }
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(fd_, other.fd_);
  std::swap(is_named_, other.is_named_);
  return *this;
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (is_named_) ::unlink(temporary_.c_str());
}

Result<void> AtomicFile::write_at(int64_t offset_bytes, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset_bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return write_error("write", path_);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset_bytes += n;
  }
  return {};
}

Result<void> AtomicFile::commit() {
  if (::fsync(fd_) != 0) return write_error("flush to disk", path_);
  // Only a name can be replaced by another at once, so it gets one first.
  if (!is_named_) {
    if (::linkat(AT_FDCWD, link_of(fd_).c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) !=
        0)
      return write_error("finish", path_);
    is_named_ = true;
  }
  const int closed = ::close(std::exchange(fd_, -1));
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return write_error("finish", path_);
  }
  is_named_ = false;
  // The new name is durable once its directory is. Some file systems refuse this; the data is safe
  // either way.
  const int fd = ::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
  return {};
}

}  // namespace quench
