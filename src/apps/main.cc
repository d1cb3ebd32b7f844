// quench: one binary, one subcommand per verb. Results on stdout, everything else on stderr. Exit
// status 0, 1 when something failed, 2 when the command line is wrong.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>

#include "apps/usage.h"
#include "apps/verbs.h"
#include "base/log.h"
#include "base/version.h"

int main(int argc, char** argv) {
  using namespace quench;
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
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::fprintf(stderr, "quench: stdout: cannot write: %s.\n", std::strerror(errno));
    return 1;
  }
  return 0;
}
