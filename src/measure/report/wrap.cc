#include "measure/report/wrap.h"

#include <utf8proc.h>

#include <algorithm>

#include "measure/report/table.h"

namespace quench {
namespace {

constexpr int kColumns = 100;

std::string_view first_character(std::string_view text) {
  utf8proc_int32_t code_point = 0;
  const auto taken = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  return text.substr(0, static_cast<size_t>(std::max<utf8proc_ssize_t>(taken, 1)));
}

// What no line may begin with.
bool closes(std::string_view character) {
  constexpr std::string_view kClosing =
      "\uff0c\u3002\uff1b\uff1a\u3001\uff01\uff1f\uff09\u300d\u300f\u300b\u201d\u2019,.;:!?)";
  return kClosing.find(character) != std::string_view::npos;
}
bool opens(std::string_view character) {
  constexpr std::string_view kOpening = "\uff08\u300c\u300e\u300a\u201c\u2018(";
  return kOpening.find(character) != std::string_view::npos;
}

// The next piece that stays together: a wide character with the punctuation behind it, or what lies
// between two places where a line may break. Without the space before it.
std::string_view next_piece(std::string_view text) {
  size_t end = 0;
  bool holds = false;  // an opening bracket keeps what follows
  while (end < text.size()) {
    const std::string_view character = first_character(text.substr(end));
    if (character == " ") break;
    const bool wide = display_width(character) == 2;
    if (end > 0 && !holds && wide && !closes(character)) break;
    end += character.size();
    holds = opens(character);
    if (wide && !holds && end < text.size() && !closes(first_character(text.substr(end)))) break;
  }
  return text.substr(0, end);
}

}  // namespace

std::string wrap(std::string_view text) {
  std::string result;
  int column = 0;
  bool after_space = false;
  while (!text.empty()) {
    if (text.front() == ' ') {
      after_space = true;
      text.remove_prefix(1);
      continue;
    }
    const std::string_view piece = next_piece(text);
    const int width = display_width(piece);
    const int space = after_space && column > 0 ? 1 : 0;
    if (column > 0 && column + space + width > kColumns) {
      result += '\n';
      column = 0;
    } else if (space > 0) {
      result += ' ';
      ++column;
    }
    result += piece;
    column += width;
    after_space = false;
    text.remove_prefix(piece.size());
  }
  return result + "\n";
}

}  // namespace quench
