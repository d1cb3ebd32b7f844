#include "text/detokenizer.h"

#include "text/unicode.h"

namespace quench {

std::string Utf8Stream::push(std::string_view bytes) {
  pending_.append(bytes);
  std::string text;
  size_t at = 0;
  while (at < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(at);
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8Step::kIncomplete) break;
    if (step.kind == Utf8Step::kValid) {
      text.append(rest.substr(0, step.length));
    } else {
      append_utf8(text, 0xfffd);
    }
    at += step.length;
  }
  pending_.erase(0, at);
  return text;
}

std::string Utf8Stream::flush() {
  std::string text;
  if (!pending_.empty()) append_utf8(text, 0xfffd);  // push() leaves one unfinished character
  pending_.clear();
  return text;
}

}  // namespace quench
