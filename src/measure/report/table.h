// Table: one table, printed as terminal text, Markdown, CSV or JSON rows. Plain values; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace quench {

enum class Align { kLeft, kRight };

struct TableColumn {
  std::string key;    // in CSV and JSON, with its unit: "decode_tok_s"
  std::string title;  // for people, with its unit: "decode tok/s"
  Align align = Align::kRight;
};

// What people read, and the value that machines read. An unknown value is null, and "-" for people.
struct Cell {
  std::string text = "-";
  Json value;
};
Cell text_cell(const std::string& text);
// `scale` multiplies what people read (100 for percent), not the value; so do the decimals.
Cell number_cell(std::optional<double> value, int decimals, double scale = 1.0);

struct Table {
  std::vector<TableColumn> columns;
  std::vector<std::vector<Cell>> rows;  // each with one cell per column

  // bold: the header in bold face, by an escape sequence.
  std::string text(bool bold = false) const;
  std::string markdown() const;
  std::string csv() const;  // RFC 4180, header first
  Json json() const;        // [{key: value, ...}, ...]
};

// Columns that the text takes on a terminal: 2 for most Chinese characters, 0 for combining marks.
int display_width(std::string_view utf8);

// With spaces up to so many columns of a terminal, on the side that `align` leaves free.
std::string padded(const std::string& text, size_t width, Align align);

// Whether escape sequences are welcome on stdout: a terminal, and no NO_COLOR (no-color.org).
bool stdout_takes_style();

}  // namespace quench
