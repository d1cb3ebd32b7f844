// quench: one binary, one subcommand per verb. Results on stdout, everything else on stderr. Exit
// status 0, 1 when something failed, 2 when the command line is wrong.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <system_error>

#include "apps/usage.h"
#include "apps/verbs.h"
#include "base/log.h"
#include "base/version.h"

namespace {

// A descriptor that the caller closed would be given to the next file, which then is read as input
// or gets the messages.
void open_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) == -1)
      static_cast<void>(::open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY));
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace quench;
  open_standard_streams();
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond the allowed size is an error of write()
  CLI::App app("quench: run, shrink, measure and explain Qwen models", "quench");
  app.set_version_flag("--version", version_string());
  app.require_subcommand(1);
  std::string log_level = "warn";
  app.add_option("--log", log_level, "Messages on stderr: error, warn, info, debug")
      ->check(CLI::IsMember({"error", "warn", "info", "debug"}))
      ->envname("QUENCH_LOG");
  app.footer(
      "Start with `quench shootout` or `quench run`; `quench VERB --help` shows a verb's flags and "
      "examples.");
  Verb chosen;
  add_shootout(app, chosen);
  add_report(app, chosen);
  add_run(app, chosen);
  add_quantize(app, chosen);
  add_eval(app, chosen);
  add_bench(app, chosen);
  add_plan(app, chosen);
  add_explain(app, chosen);
  add_compare(app, chosen);
  add_history(app, chosen);
  add_monitor(app, chosen);
  add_ceilings(app, chosen);
  add_inspect(app, chosen);
  add_tokenize(app, chosen);
  add_logits(app, chosen);
  add_convert(app, chosen);
  add_check(app, chosen);
  add_list(app, chosen);
  try {
    std::vector<std::string> arguments = spelled_out({argv + 1, argv + argc});
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the end
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? app.exit(e) : usage_error(app, e);
  }
  init_log(log_level);
  try {
    if (const Result<void> done = chosen(); !done) {
      std::fflush(stdout);
      std::fprintf(stderr, "quench: %s\n", done.error().message.c_str());
      return exit_status(done.error().code);
    }
  } catch (const std::bad_alloc&) {
    std::fputs("quench: Out of memory; a smaller --max-seq-len or --format needs less.\n", stderr);
    return 1;
  } catch (const std::filesystem::filesystem_error& error) {
    std::fprintf(stderr, "quench: %s: %s.\n", error.path1().c_str(),
                 error.code().message().c_str());
    return 1;
  } catch (const std::system_error& error) {  // else only of starting threads
    std::fprintf(stderr,
                 "quench: Cannot start another thread: %s; --threads with fewer may work.\n",
                 error.what());
    return 1;
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::fprintf(stderr, "quench: stdout: cannot write: %s.\n", std::strerror(errno));
    return 1;
  }
  return 0;
}
