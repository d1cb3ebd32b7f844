#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "cli/cli.h"
#include "test_paths.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void become_quench(const std::vector<std::string>& arguments) {
  std::string program = program_path();
  std::vector<char*> argv = {program.data()};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  for (const char* name : {"QUENCH_ISA", "QUENCH_LOG", "QUENCH_DATA"}) ::unsetenv(name);
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

std::string read_all(int fd) {
  std::string text(static_cast<size_t>(::lseek(fd, 0, SEEK_END)), '\0');
  EXPECT_EQ(::pread(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  ::close(fd);
  return text;
}

}  // namespace

Output quench(const std::vector<std::string>& arguments, std::string_view input,
              const char* out_path) {
  const int in = ::memfd_create("stdin", MFD_CLOEXEC);
  const int out = out_path != nullptr ? ::open(out_path, O_WRONLY | O_CLOEXEC)
                                      : ::memfd_create("stdout", MFD_CLOEXEC);
  const int err = ::memfd_create("stderr", MFD_CLOEXEC);
  EXPECT_EQ(::pwrite(in, input.data(), input.size(), 0), static_cast<ssize_t>(input.size()));
  Child child;
  child.pid = ::fork();
  if (child.pid == 0) {
    ::dup2(in, STDIN_FILENO);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
    become_quench(arguments);
  }
  Output output;
  output.status = wait_for(child);
  ::close(in);
  if (out_path == nullptr) {
    output.out = read_all(out);
  } else {
    ::close(out);
  }
  output.err = read_all(err);
  return output;
}

Child start_quench(const std::vector<std::string>& arguments, bool terminal) {
  Child child;
  if (terminal) {
    child.pid = ::forkpty(&child.fd, nullptr, nullptr, nullptr);
    if (child.pid == 0) become_quench(arguments);
    return child;
  }
  int pipe[2] = {-1, -1};
  EXPECT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  child.pid = ::fork();
  if (child.pid == 0) {
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::dup2(pipe[1], STDOUT_FILENO);
    ::dup2(pipe[1], STDERR_FILENO);
    become_quench(arguments);
  }
  ::close(pipe[1]);
  child.fd = pipe[0];
  return child;
}

bool read_until(const Child& child, std::string_view text, std::string& seen) {
  while (seen.find(text) == std::string::npos) {
    pollfd waiting = {child.fd, POLLIN, 0};
    char buffer[4096];
    if (::poll(&waiting, 1, 60'000) != 1) return false;
    const ssize_t got = ::read(child.fd, buffer, sizeof(buffer));
    if (got <= 0) return false;
    seen.append(buffer, static_cast<size_t>(got));
  }
  return true;
}

int wait_for(const Child& child) {
  int status = 0;
  EXPECT_EQ(::waitpid(child.pid, &status, 0), child.pid);
  if (child.fd >= 0) ::close(child.fd);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void expect_error(const Output& output, const std::vector<std::string>& words) {
  EXPECT_EQ(output.status, 1) << output.err;
  EXPECT_TRUE(output.err.starts_with("quench: ")) << output.err;
  EXPECT_TRUE(output.err.ends_with(".\n")) << output.err;
  EXPECT_EQ(std::count(output.err.begin(), output.err.end(), '\n'), 1) << output.err;
  for (const std::string& word : words) {
    EXPECT_NE(output.err.find(word), std::string::npos) << word << " is not in: " << output.err;
  }
}

std::string demo_dir() { return source_path("models/demo"); }
bool has_demo() { return fs::exists(demo_dir() + "/model.safetensors"); }

std::string copy_tiny_model(const ScratchDir& scratch, const std::string& name, const char* merge) {
  const std::string dir = scratch.file("model");
  fs::copy(source_path("tests/tiny_model/" + name), dir, fs::copy_options::recursive);
  Json config = read_json_file(dir + "/config.json").value();
  config.merge_patch(Json::parse(merge));
  scratch.write("model/config.json", config.dump());
  return dir;
}

std::string tiny_model_with_tokenizer(const ScratchDir& scratch) {
  const std::string dir = copy_tiny_model(scratch, "qwen2", R"({"vocab_size": 1009})");
  fs::copy_file(source_path("tests/text/small_tokenizer/tokenizer.json"), dir + "/tokenizer.json");
  return dir;
}

}  // namespace quench
