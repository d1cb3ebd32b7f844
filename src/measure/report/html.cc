#include "measure/report/html.h"

#include <utf8proc.h>

#include "base/check.h"
#include "base/embedded.h"

namespace quench {
namespace {

// For inside <script>: no "</script" and no "<!--" can come out of it.
std::string script_json(const Json& json) {
  std::string result;
  for (const char c : json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<') {
      result += "\\u003c";
    } else {
      result += c;
    }
  }
  return result;
}

// In one pass, so that what is filled in is never taken for a place to fill.
std::string fill_page(std::string_view page, const std::map<std::string, std::string_view>& parts) {
  std::string result;
  while (true) {
    const size_t begin = page.find("{{");
    result += page.substr(0, begin);
    if (begin == std::string_view::npos) return result;
    const size_t end = page.find("}}", begin);
    const auto part = parts.find(std::string(page.substr(begin + 2, end - begin - 2)));
    QUENCH_CHECK(part != parts.end(), "page.html has a place that nothing fills");
    result += part->second;
    page.remove_prefix(end + 2);
  }
}

// Cells that hold lists wrap; all others stay on one line.
constexpr size_t kLongCell = 40;

}  // namespace

std::string html_text(std::string_view text) {
  std::string result;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    utf8proc_int32_t code_point = 0;
    const utf8proc_ssize_t taken = utf8proc_iterate(bytes, left, &code_point);
    const utf8proc_ssize_t step = taken > 0 ? taken : 1;
    switch (code_point) {
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '&':
        result += "&amp;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        if (taken <= 0) {
          result += "\xef\xbf\xbd";
        } else if (code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0)) {
          result += ' ';
        } else {
          result.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(step));
        }
    }
    bytes += step;
    left -= step;
  }
  return result;
}

HtmlReport::HtmlReport(const Strings& strings, const std::string& title)
    : strings_(strings), title_(title) {
  body_ = "<h1>" + html_text(title) + "</h1>\n";
}

void HtmlReport::close_section() {
  if (in_section_) body_ += "</section>\n";
  in_section_ = false;
}

void HtmlReport::section(const std::string& heading) {
  close_section();
  body_ += "<section>\n<h2>" + html_text(heading) + "</h2>\n";
  in_section_ = true;
}

void HtmlReport::paragraph(const std::string& text, const char* style) {
  body_ += fmt::format("<p class=\"{}\">{}</p>\n", style, html_text(text));
}

void HtmlReport::cards(const std::vector<HtmlCard>& cards) {
  body_ += "<div class=\"cards\">\n";
  for (const HtmlCard& card : cards) {
    body_ += fmt::format(
        "<div class=\"card\" style=\"--series: var(--series-{})\">\n<h3>{}</h3>\n"
        "<p class=\"name\">{}</p>\n",
        card.color % 8, html_text(card.heading), html_text(card.name));
    for (const std::string& line : card.lines) body_ += "<p>" + html_text(line) + "</p>\n";
    for (const auto& [what, why] : card.reasons) {
      body_ += fmt::format("<p class=\"reason\">{}{}{}</p>\n", html_text(what),
                           strings_("name_separator"), html_text(why));
    }
    body_ += "</div>\n";
  }
  body_ += "</div>\n";
}

void HtmlReport::table(const Table& table) {
  auto style = [&](size_t c, const std::string& text) {
    std::string classes = table.columns[c].align == Align::kRight ? "right" : "";
    if (text.size() > kLongCell) classes += classes.empty() ? "long" : " long";
    return classes.empty() ? "" : " class=\"" + classes + "\"";
  };
  body_ += fmt::format(
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"{}\">\n<table>\n<thead><tr>",
      html_text(strings_("html.scroll")));
  for (size_t c = 0; c < table.columns.size(); ++c) {
    body_ +=
        fmt::format("<th scope=\"col\"{}>{}</th>", style(c, ""), html_text(table.columns[c].title));
  }
  body_ += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    body_ += "<tr>";
    for (size_t c = 0; c < row.size(); ++c) {
      const char* element = c == 0 ? "th" : "td";
      body_ += fmt::format("<{0}{1}{2}>{3}</{0}>", element, c == 0 ? " scope=\"row\"" : "",
                           style(c, row[c].text), html_text(row[c].text));
    }
    body_ += "</tr>\n";
  }
  body_ += "</tbody>\n</table>\n</div>\n";
}

void HtmlReport::terms(const std::vector<std::pair<std::string, std::string>>& terms) {
  body_ += "<dl>\n";
  for (const auto& [term, text] : terms)
    body_ += fmt::format("<dt>{}</dt><dd>{}</dd>\n", html_text(term), html_text(text));
  body_ += "</dl>\n";
}

void HtmlReport::figure(const Json& chart, const Table& numbers, const std::string& label) {
  const std::string id = fmt::format("chart-{}", charts_.size() + 1);
  Json data = chart;
  data["id"] = id;
  const bool plane = chart["kind"] == "plane";
  body_ += "<figure>\n<div class=\"panels\">\n";
  size_t index = 0;
  for (const Json& panel : chart["panels"]) {
    const std::string title = panel.value("title", "");
    body_ += "<div>\n";
    if (!title.empty()) body_ += "<h3>" + html_text(title) + "</h3>\n";
    body_ += fmt::format(
        "<div class=\"canvas{}\" style=\"--rows: {}\"><canvas id=\"{}-{}\" role=\"img\" "
        "aria-label=\"{}\"></canvas></div>\n</div>\n",
        plane ? " plane" : "", plane ? 0 : panel["rows"].size(), id, index++,
        html_text(title.empty() ? label : label + ", " + title));
  }
  body_ += fmt::format("</div>\n<noscript><p>{}</p></noscript>\n<details>\n<summary>{}</summary>\n",
                       html_text(strings_("html.no_script")), html_text(strings_("html.numbers")));
  table(numbers);
  body_ += "</details>\n</figure>\n";
  charts_.push_back(std::move(data));
}

std::string HtmlReport::page() const {
  const std::string body = body_ + (in_section_ ? "</section>\n" : "");
  const std::string title = html_text(title_);
  const std::string footer = html_text(strings_("html.footer"));
  const std::string language = strings_("language");
  const std::string data = script_json({{"charts", charts_}});
  return fill_page(embedded_file("page.html"), {{"language", language},
                                                {"title", title},
                                                {"style", embedded_file("page.css")},
                                                {"body", body},
                                                {"footer", footer},
                                                {"data", data},
                                                {"chart_library", embedded_file("chart.js")},
                                                {"charts", embedded_file("charts.js")}});
}

}  // namespace quench
