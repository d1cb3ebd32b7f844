#include "measure/report/table.h"

#include <unistd.h>
#include <utf8proc.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>

#include "base/check.h"

namespace quench {
namespace {

// Control characters would move the cursor; a name from a file must not.
std::string printable(const std::string& text) {
  std::string result = text;
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return result;
}

std::string markdown_cell(const std::string& text) {
  std::string result;
  for (const char c : printable(text)) {
    if (c == '|' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"') result += '"';
    result += c;
  }
  return result + '"';
}

std::string joined(size_t count, const char* separator,
                   const std::function<std::string(size_t)>& part) {
  std::string line;
  for (size_t c = 0; c < count; ++c) line += (c > 0 ? separator : "") + part(c);
  return line;
}

}  // namespace

Cell text_cell(const std::string& text) { return {printable(text), text}; }

Cell number_cell(std::optional<double> value, int decimals, double scale) {
  if (!value || !std::isfinite(*value)) return {};
  return {fmt::format("{:.{}f}", *value * scale, decimals), *value};
}

int display_width(std::string_view utf8) {
  int width = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(utf8.data());
  auto left = static_cast<utf8proc_ssize_t>(utf8.size());
  while (left > 0) {
    utf8proc_int32_t code_point = 0;
    const utf8proc_ssize_t taken = utf8proc_iterate(bytes, left, &code_point);
    // A byte that is not UTF-8 is shown as one replacement character.
    width += taken > 0 ? utf8proc_charwidth(code_point) : 1;
    bytes += std::max<utf8proc_ssize_t>(taken, 1);
    left -= std::max<utf8proc_ssize_t>(taken, 1);
  }
  return width;
}

std::string padded(const std::string& text, size_t width, Align align) {
  const auto taken = static_cast<size_t>(display_width(text));
  const std::string space(width > taken ? width - taken : 0, ' ');
  return align == Align::kRight ? space + text : text + space;
}

std::string Table::text(bool bold) const {
  std::vector<size_t> widths;
  for (const TableColumn& column : columns)
    widths.push_back(static_cast<size_t>(display_width(column.title)));
  for (const auto& row : rows) {
    QUENCH_CHECK(row.size() == columns.size(), "a row of {} cells in a table of {} columns",
                 row.size(), columns.size());
    for (size_t c = 0; c < row.size(); ++c)
      widths[c] = std::max(widths[c], static_cast<size_t>(display_width(row[c].text)));
  }
  auto line = [&](const std::function<const std::string&(size_t)>& cell) {
    std::string text = joined(columns.size(), "  ", [&](size_t c) {
      return padded(cell(c), widths[c], columns[c].align);
    });
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  const std::string header = line([&](size_t c) -> const std::string& { return columns[c].title; });
  std::string result = bold ? "\x1b[1m" + header + "\x1b[0m\n" : header + "\n";
  for (const auto& row : rows)
    result += line([&](size_t c) -> const std::string& { return row[c].text; }) + "\n";
  return result;
}

std::string Table::markdown() const {
  auto line = [&](const std::function<std::string(size_t)>& cell) {
    return "| " + joined(columns.size(), " | ", cell) + " |\n";
  };
  std::string result = line([&](size_t c) { return markdown_cell(columns[c].title); });
  result += line([&](size_t c) { return columns[c].align == Align::kRight ? "---:" : "---"; });
  for (const auto& row : rows) result += line([&](size_t c) { return markdown_cell(row[c].text); });
  return result;
}

std::string Table::csv() const {
  std::string result =
      joined(columns.size(), ",", [&](size_t c) { return csv_field(columns[c].key); }) + "\r\n";
  for (const auto& row : rows) {
    result +=
        joined(columns.size(), ",",
               [&](size_t c) {
                 const Json& value = row[c].value;
                 if (value.is_null()) return std::string();
                 return csv_field(value.is_string() ? value.get<std::string>() : value.dump());
               }) +
        "\r\n";
  }
  return result;
}

Json Table::json() const {
  Json result = Json::array();
  for (const auto& row : rows) {
    Json object = Json::object();
    for (size_t c = 0; c < columns.size(); ++c) object[columns[c].key] = row[c].value;
    result.push_back(std::move(object));
  }
  return result;
}

bool stdout_takes_style() {
  const char* no_color = std::getenv("NO_COLOR");
  return ::isatty(STDOUT_FILENO) != 0 && (no_color == nullptr || *no_color == '\0');
}

}  // namespace quench
