#include "measure/analyze/neighbour.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/topology.h"

namespace quench {
namespace {

constexpr int64_t kLeastBytes = int64_t{64} << 20;
constexpr int64_t kMostBytes = int64_t{512} << 20;
constexpr int64_t kStreams = 4;

// Runs in the child of a process with threads: nothing but system calls and reading is allowed.
[[noreturn]] void read_until_killed(decltype(Probes::read) read, const std::byte* data,
                                    int64_t size_bytes, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(0);  // it died before the line above
  uint64_t sum = 0;
  for (;;) {
    sum += read(data, size_bytes, kStreams, 0);
    // Never true in practice; keeps the reading.
    if (sum == 1) ::getppid();
  }
}

}  // namespace

Result<Neighbour> Neighbour::create(int readers, const Probes& probes) {
  Neighbour neighbour;
  neighbour.readers_ = readers;
  neighbour.read_ = probes.read;
  constexpr int64_t kUnit = kStreams * kProbeGrain;
  neighbour.size_bytes_ =
      std::clamp(2 * topology().l3_bytes, kLeastBytes, kMostBytes) / kUnit * kUnit;
  void* data = ::mmap(nullptr, static_cast<size_t>(neighbour.size_bytes_), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return fail(ErrorCode::kOutOfMemory, "There are no {} MB for a neighbour to read: {}.",
                neighbour.size_bytes_ >> 20, std::strerror(errno));
  }
  neighbour.data_ = static_cast<std::byte*>(data);
  // Pages that nobody has written would all be one.
  std::memset(data, 1, static_cast<size_t>(neighbour.size_bytes_));
  return neighbour;
}

Neighbour::Neighbour(Neighbour&& other) noexcept
    : readers_(other.readers_),
      read_(other.read_),
      data_(std::exchange(other.data_, nullptr)),
      size_bytes_(other.size_bytes_),
      processes_(std::move(other.processes_)) {
  other.processes_.clear();
}

Neighbour::~Neighbour() {
  stop();
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(size_bytes_));
}

Result<void> Neighbour::start() {
  const pid_t parent = ::getpid();
  while (static_cast<int>(processes_.size()) < readers_) {
    const pid_t child = ::fork();
    if (child == 0) read_until_killed(read_, data_, size_bytes_, parent);
    if (child < 0) {
      const int error = errno;
      stop();
      return fail(ErrorCode::kIo, "Cannot start a process for a neighbour: {}.",
                  std::strerror(error));
    }
    processes_.push_back(child);
  }
  return {};
}

void Neighbour::stop() {
  for (const pid_t child : processes_) ::kill(child, SIGKILL);
  for (const pid_t child : processes_) {
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  }
  processes_.clear();
}

}  // namespace quench
