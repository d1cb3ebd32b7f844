#include "base/atomic_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "base/file.h"
#include "io/raw_safetensors.h"

namespace quench {
namespace {

std::span<const std::byte> payload(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(AtomicFile, IsThereWhenItIsComplete) {
  const ScratchDir scratch;
  const std::string path = scratch.file("file");
  for (const std::string_view text : {"first", "2nd"}) {
    AtomicFile file = AtomicFile::create(path, 1 << 16).value();
    ASSERT_TRUE(file.write_at(1, payload(text.substr(1))));
    ASSERT_TRUE(file.write_at(0, payload(text.substr(0, 1))));
    EXPECT_EQ(std::filesystem::exists(path), text == "2nd");
    ASSERT_TRUE(file.commit());
    EXPECT_EQ(read_file(path).value(), text);
    EXPECT_EQ(scratch.num_files(), 1);
  }
}

TEST(AtomicFile, LeavesNothingOfWhatIsGivenUp) {
  const ScratchDir scratch;
  {
    AtomicFile file = AtomicFile::create(scratch.file("file"), 0).value();
    ASSERT_TRUE(file.write_at(0, payload("text")));
  }
  EXPECT_EQ(scratch.num_files(), 0);
}

TEST(AtomicFile, LeavesNothingWhenTheProcessIsKilled) {
  const ScratchDir scratch;
  // A file system that has no files without a name keeps the temporary one, and no other.
  const int fd = ::open(scratch.path().c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  const int64_t kept = fd >= 0 ? 0 : 1;
  if (fd >= 0) ::close(fd);
  const pid_t child = ::fork();
  if (child == 0) {
    auto file = AtomicFile::create(scratch.file("file"), 0);
    if (!file || !file->write_at(0, payload("text"))) ::_exit(1);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_EQ(scratch.num_files(), kept);
  EXPECT_FALSE(std::filesystem::exists(scratch.file("file")));
}

}  // namespace
}  // namespace quench
