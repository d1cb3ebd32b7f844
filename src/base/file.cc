#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "base/atomic_file.h"

namespace quench {
namespace {

// Closes a descriptor when it leaves scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

tl::unexpected<Error> os_error(std::string_view what, const std::string& path) {
  const int error = errno;
  const ErrorCode code =
      error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo;
  return fail(code, "{}: cannot {}: {}.", path, what, std::strerror(error));
}

Result<int64_t> regular_file_bytes(int fd, const std::string& path) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return os_error("read its size", path);
  if (!S_ISREG(info.st_mode)) {
    return fail(ErrorCode::kInvalidFile, "{}: expected a regular file, found something else.",
                path);
  }
  return static_cast<int64_t>(info.st_size);
}

}  // namespace

Result<std::string> read_file(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return os_error("open", path);
  QUENCH_TRY(const int64_t size_bytes, regular_file_bytes(fd.get(), path));
  std::string text(static_cast<size_t>(size_bytes), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error("read", path);
    if (n == 0) break;  // shorter than it was a moment ago
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

std::string read_proc(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Result<void> write_file_atomic(const std::string& path, std::string_view bytes) {
  QUENCH_TRY(AtomicFile file, AtomicFile::create(path, static_cast<int64_t>(bytes.size())));
  QUENCH_TRY_VOID(file.write_at(0, std::as_bytes(std::span(bytes))));
  return file.commit();
}

bool file_exists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

bool is_directory(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

Result<void> remove_directory(const std::string& dir) {
  std::error_code error;
  std::filesystem::remove_all(dir, error);
  if (!error) return {};
  return fail(ErrorCode::kIo, "{}: cannot remove the directory: {}.", dir, error.message());
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return os_error("open", path);
  MappedFile file;
  file.path_ = path;
  QUENCH_TRY(file.size_bytes_, regular_file_bytes(fd.get(), path));
  if (file.size_bytes_ == 0) return file;  // mmap refuses length 0; an empty span is the truth
  void* data =
      ::mmap(nullptr, static_cast<size_t>(file.size_bytes_), PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return os_error("map", path);
  file.data_ = static_cast<const std::byte*>(data);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_bytes_));
}

void MappedFile::drop(int64_t offset_bytes, int64_t length_bytes) const {
  const int64_t page_bytes = ::sysconf(_SC_PAGESIZE);
  const int64_t begin = (offset_bytes + page_bytes - 1) / page_bytes * page_bytes;
  const int64_t end = std::min(offset_bytes + length_bytes, size_bytes_) / page_bytes * page_bytes;
  if (begin < end) {
    ::madvise(const_cast<std::byte*>(data_) + begin, static_cast<size_t>(end - begin),
              MADV_DONTNEED);
  }
}

}  // namespace quench
