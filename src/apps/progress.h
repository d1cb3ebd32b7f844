// ProgressLine: how far something is, on stderr: one line that rewrites itself on a terminal,
// elsewhere one line per stage. One thread.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

namespace quench {

class ProgressLine {
 public:
  // With `quiet`, nothing is shown where there is no terminal.
  explicit ProgressLine(bool quiet = false) : quiet_(quiet) {}

  void show(const std::string& stage, int64_t done, int64_t total, const std::string& detail = "") {
    if (is_terminal_) {
      const double part =
          static_cast<double>(done) / static_cast<double>(std::max<int64_t>(total, 1));
      constexpr int kWidth = 24;
      const int full = static_cast<int>(part * kWidth);
      std::fprintf(stderr, "\r\x1b[K[%s%s] %3.0f %% %s%s%s",
                   std::string(static_cast<size_t>(full), '=').c_str(),
                   std::string(static_cast<size_t>(kWidth - full), ' ').c_str(), 100.0 * part,
                   stage.c_str(), detail.empty() ? "" : ": ", detail.c_str());
      std::fflush(stderr);
    } else if (stage != last_ && !quiet_) {
      std::fprintf(stderr, "%s\n", stage.c_str());
    }
    last_ = stage;
  }
  void clear() const {
    if (is_terminal_) std::fputs("\r\x1b[K", stderr);
  }

 private:
  const bool is_terminal_ = ::isatty(STDERR_FILENO) != 0;
  const bool quiet_;
  std::string last_;
};

}  // namespace quench
