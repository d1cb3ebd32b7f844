// HtmlReport: one self-contained HTML page, built part by part: headings, text, tables, charts.
// What comes in is plain text and is escaped here; nothing is loaded from the network. A chart is
// drawn by the embedded Chart.js and always has its numbers in a table below it. One thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "measure/report/strings.h"
#include "measure/report/table.h"

namespace quench {

// `text` as the content of an element or attribute: <, >, &, quotes escaped; bytes that are not
// UTF-8 replaced by U+FFFD, control characters by a space.
std::string html_text(std::string_view text);

struct HtmlCard {
  std::string heading;
  std::string name;  // large
  int color = 0;     // that of the row in charts
  std::vector<std::string> lines;
  std::vector<std::pair<std::string, std::string>> reasons;  // for what, why; small, below
};

class HtmlReport {
 public:
  HtmlReport(const Strings& strings, const std::string& title);

  void section(const std::string& heading);
  void paragraph(const std::string& text, const char* style = "");
  void cards(const std::vector<HtmlCard>& cards);
  void table(const Table& table);
  // A term and what it means or is.
  void terms(const std::vector<std::pair<std::string, std::string>>& terms);
  // chart: {"kind": "strips" or "plane", "unit", "panels": [{"title", ...}]} as charts.js reads it.
  void figure(const Json& chart, const Table& numbers, const std::string& label);

  std::string page() const;

 private:
  void close_section();

  const Strings& strings_;
  std::string title_;
  std::string body_;
  bool in_section_ = false;
  Json charts_ = Json::array();
};

}  // namespace quench
