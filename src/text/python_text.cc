#include "text/python_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "text/unicode.h"

namespace quench {
namespace {

// repr(float): the shortest digits that read back the same, positional where the decimal point
// falls within 16 digits, else with an exponent of at least two digits.
std::string python_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  char buffer[32];
  const auto [end, error] =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string text(buffer, end);
  std::string sign;
  if (text.front() == '-') {
    sign = "-";
    text.erase(0, 1);
  }
  const size_t e = text.find('e');
  const char* digits_of_exponent = text.c_str() + e + 1;
  if (*digits_of_exponent == '+') ++digits_of_exponent;  // from_chars takes none
  int exponent = 0;
  std::from_chars(digits_of_exponent, text.c_str() + text.size(), exponent);
  std::string digits = text.substr(0, 1);
  if (e > 2) digits += text.substr(2, e - 2);
  const int point = exponent + 1;  // digits in front of the decimal point
  const auto n = static_cast<int>(digits.size());
  if (point > 16 || point < -3) {
    const std::string fraction = n > 1 ? "." + digits.substr(1) : "";
    return fmt::format("{}{}{}e{}{:02}", sign, digits[0], fraction, exponent < 0 ? '-' : '+',
                       std::abs(exponent));
  }
  if (point <= 0) return sign + "0." + std::string(static_cast<size_t>(-point), '0') + digits;
  if (point >= n) return sign + digits + std::string(static_cast<size_t>(point - n), '0') + ".0";
  return sign + digits.substr(0, static_cast<size_t>(point)) + "." +
         digits.substr(static_cast<size_t>(point));
}

void append_json_string(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<uint8_t>(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

// str.isprintable for one character.
bool is_printable(uint32_t c) {
  switch (utf8proc_category(static_cast<int32_t>(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}

// repr(str).
void append_repr(std::string_view bytes, std::string& out) {
  std::string storage;
  const std::string_view text = replace_invalid_utf8(bytes, storage);
  const bool single = text.find('\'') == std::string_view::npos;
  const char quote = single || text.find('"') != std::string_view::npos ? '\'' : '"';
  out += quote;
  for (size_t at = 0; at < text.size();) {
    const uint32_t c = next_code_point(text.data(), at);
    if (c == static_cast<uint32_t>(quote) || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      append_utf8(out, c);
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", c);
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", c);
    } else {
      out += fmt::format("\\U{:08x}", c);
    }
  }
  out += quote;
}

enum class Style { kJson, kRepr };

void append_value(const Json& value, Style style, std::string& out) {
  const auto string = [&](std::string_view text) {
    style == Style::kJson ? append_json_string(text, out) : append_repr(text, out);
  };
  const bool json = style == Style::kJson;
  switch (value.type()) {
    case Json::value_t::null:
      out += json ? "null" : "None";
      break;
    case Json::value_t::boolean:
      out += value.get<bool>() ? (json ? "true" : "True") : (json ? "false" : "False");
      break;
    case Json::value_t::string:
      string(value.get_ref<const std::string&>());
      break;
    case Json::value_t::number_float:
      out += python_float(value.get<double>());
      break;
    case Json::value_t::array: {
      out += '[';
      const char* separator = "";
      for (const Json& item : value) {
        out += std::exchange(separator, ", ");
        append_value(item, style, out);
      }
      out += ']';
      break;
    }
    case Json::value_t::object: {
      out += '{';
      const char* separator = "";
      for (const auto& [key, item] : value.items()) {
        out += std::exchange(separator, ", ");
        string(key);
        out += ": ";
        append_value(item, style, out);
      }
      out += '}';
      break;
    }
    default:
      out += value.dump();  // integers
  }
}

bool is_python_space(uint32_t c) {
  const CharClass char_class = UnicodeTable::get().char_class(c);
  return char_class == CharClass::kSpace || char_class == CharClass::kNewline ||
         (c >= 0x1c && c <= 0x1f);
}

}  // namespace

std::string python_json(const Json& value) {
  std::string out;
  append_value(value, Style::kJson, out);
  return out;
}

std::string python_str(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  std::string out;
  append_value(value, Style::kRepr, out);
  return out;
}

std::string_view python_strip(std::string_view text) {
  std::string storage;
  if (replace_invalid_utf8(text, storage).data() != text.data()) return text;  // not text at all
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    if (is_python_space(next_code_point(text.data(), at))) continue;
    begin = std::min(begin, here);
    end = at;
  }
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

std::string_view strip_left(std::string_view text, char c) {
  return text.substr(std::min(text.find_first_not_of(c), text.size()));
}

std::string_view strip_right(std::string_view text, char c) {
  return text.substr(0, text.find_last_not_of(c) + 1);
}

}  // namespace quench
