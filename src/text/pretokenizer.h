// Cuts text into the pieces inside which byte pair encoding works: a hand-written scanner for the
// one regular expression of all Qwen generations,
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*
//   |\s*[\r\n]+|\s+(?!\S)|\s+
// Any thread may call.
#pragma once

#include <cstddef>
#include <string_view>

#include "text/unicode.h"

namespace quench {

// The regular expression as it stands in tokenizer.json.
extern const char kQwen2Regex[];

class Pretokenizer {
 public:
  Pretokenizer() : table_(UnicodeTable::get()) {}

  // The end of the piece that begins at `begin` in well-formed UTF-8. begin < text.size().
  size_t piece_end(std::string_view text, size_t begin) const;

 private:
  struct Char {
    CharClass char_class;
    size_t end;  // where the next character begins
  };
  Char char_at(std::string_view text, size_t position) const;
  size_t skip_class(std::string_view text, size_t position, CharClass char_class) const;
  size_t space_end(std::string_view text, size_t begin) const;

  const UnicodeTable& table_;
};

}  // namespace quench
