// Tokens to text while they arrive. A token may end in the middle of a character; what push()
// returns is text that no later token can change, never half a code point.
//
// One object per sequence, used by one thread; the tokenizer must outlive it.
#pragma once

#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace quench {

// Bytes to UTF-8 text, piece by piece: what bytes.decode("utf-8", errors="replace") gives for all
// of them together.
class Utf8Stream {
 public:
  // The text that is now certain. At most 3 bytes are kept back.
  std::string push(std::string_view bytes);
  // The end of the bytes: an unfinished character becomes U+FFFD. Ready for new bytes afterwards.
  std::string flush();

 private:
  std::string pending_;
};

class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  std::string push(TokenId id) {
    if (skip_special_ && tokenizer_.is_special(id)) return {};
    return stream_.push(tokenizer_.token_bytes(id));
  }
  std::string flush() { return stream_.flush(); }

 private:
  const Tokenizer& tokenizer_;
  const bool skip_special_;
  Utf8Stream stream_;
};

}  // namespace quench
