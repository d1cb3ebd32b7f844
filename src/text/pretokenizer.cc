#include "text/pretokenizer.h"

#include <array>

namespace quench {
namespace {

constexpr CharClass ascii_class(uint8_t c) {
  if (c == '\r' || c == '\n') return CharClass::kNewline;
  if (c == ' ' || (c >= '\t' && c <= '\r')) return CharClass::kSpace;
  if (c >= '0' && c <= '9') return CharClass::kNumber;
  if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') return CharClass::kLetter;
  return CharClass::kOther;
}
constexpr std::array<CharClass, 128> kAsciiClass = [] {
  std::array<CharClass, 128> classes{};
  for (uint8_t c = 0; c < 128; ++c) classes[c] = ascii_class(c);
  return classes;
}();

// Length of 's 't 're 've 'm 'll 'd at an apostrophe, in either case, or 0. Case folding makes the
// long s (U+017F) an s too.
size_t contraction_bytes(std::string_view text) {
  if (text.size() < 2) return 0;
  const auto lower = [&](size_t i) { return i < text.size() ? text[i] | 0x20 : 0; };
  switch (lower(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return lower(2) == 'e' ? 3 : 0;
    case 'l':
      return lower(2) == 'l' ? 3 : 0;
    default:
      return text.substr(1, 2) == "\xc5\xbf" ? 3 : 0;
  }
}

}  // namespace

const char kQwen2Regex[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

inline Pretokenizer::Char Pretokenizer::char_at(std::string_view text, size_t position) const {
  const auto byte = static_cast<uint8_t>(text[position]);
  if (byte < 0x80) return {kAsciiClass[byte], position + 1};
  size_t end = position;
  const uint32_t c = next_code_point(text.data(), end);
  return {table_.char_class(c), end};
}

// Behind the run of characters of one class.
inline size_t Pretokenizer::skip_class(std::string_view text, size_t position,
                                       CharClass char_class) const {
  while (position < text.size()) {
    const Char c = char_at(text, position);
    if (c.char_class != char_class) break;
    position = c.end;
  }
  return position;
}

size_t Pretokenizer::space_end(std::string_view text, size_t begin) const {
  // One pass over the whole run of white space, remembering what the three last alternatives ask.
  size_t position = begin;
  size_t last = begin;          // where the last character of the run begins
  size_t last_newline_end = 0;  // behind the last \r or \n
  while (position < text.size()) {
    const Char c = char_at(text, position);
    if (c.char_class != CharClass::kSpace && c.char_class != CharClass::kNewline) break;
    last = position;
    position = c.end;
    if (c.char_class == CharClass::kNewline) last_newline_end = position;
  }
  if (last_newline_end != 0) return last_newline_end;  // \s*[\r\n]+
  if (position == text.size()) return position;        // \s+(?!\S) at the end
  return last > begin ? last : position;               // \s+(?!\S) gives one back; else \s+
}

size_t Pretokenizer::piece_end(std::string_view text, size_t begin) const {
  const Char first = char_at(text, begin);
  switch (first.char_class) {
    case CharClass::kLetter:
      return skip_class(text, first.end, CharClass::kLetter);
    case CharClass::kNumber:
      return first.end;
    case CharClass::kNewline:
      return space_end(text, begin);
    case CharClass::kSpace: {
      if (first.end == text.size()) return first.end;
      const Char second = char_at(text, first.end);
      if (second.char_class == CharClass::kLetter)
        return skip_class(text, second.end, CharClass::kLetter);
      if (second.char_class != CharClass::kOther || text[begin] != ' ')
        return space_end(text, begin);
      break;  // " ?" in front of punctuation
    }
    case CharClass::kOther: {
      if (text[begin] == '\'') {
        const size_t bytes = contraction_bytes(text.substr(begin));
        if (bytes != 0) return begin + bytes;
      }
      if (first.end == text.size()) return first.end;
      const Char second = char_at(text, first.end);
      if (second.char_class == CharClass::kLetter)
        return skip_class(text, second.end, CharClass::kLetter);
      break;
    }
  }
  const size_t end = skip_class(text, first.end, CharClass::kOther);
  return skip_class(text, end, CharClass::kNewline);
}

}  // namespace quench
