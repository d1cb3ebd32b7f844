#include "measure/report/cost_report.h"

#include "measure/analyze/measured_cost.h"
#include "measure/report/page_parts.h"

namespace quench {
namespace {

// Three digits, or all before the point.
std::string amount_text(double value) {
  return value >= 100.0 ? fixed(value, 0) : fmt::format("{:.3g}", value);
}

std::string range_text(const Between& range, const std::string& unit) {
  const std::string low = amount_text(range.low);
  const std::string high = amount_text(range.high);
  return fmt::format("{}{}", low == high ? low : low + "-" + high, unit.empty() ? "" : " " + unit);
}

std::string row_name(const MeasuredCostRow& row, const Strings& strings) {
  std::string load;
  if (row.concurrency) {
    load = strings("load.concurrency", {{"count", fixed(*row.concurrency, 0)}});
  } else if (row.rate_s) {
    load = strings("load.rate", {{"rate", fmt::format("{:.3g}", *row.rate_s)}});
  } else if (row.profile.empty()) {
    load = strings("cost.alone");
  }
  const std::string profile =
      row.profile.empty() ? std::string() : profile_text(strings, row.profile);
  return profile.empty() || load.empty() ? profile + load : profile + ", " + load;
}

Table table_of(const MeasuredCost& cost, const Strings& strings) {
  const bool has_own = cost.prices.own.has_value();
  const bool has_rent = cost.prices.rent.has_value();
  const bool has_power = has_own && cost.prices.own->busy_w > 0.0;
  Table table;
  const std::map<std::string, std::string> values = {{"currency", cost.prices.currency}};
  auto add = [&](const char* key, Align align = Align::kRight) {
    table.columns.push_back({key, strings(fmt::format("column.{}", key), values), align});
  };
  add("measured", Align::kLeft);
  add("answer_tok_s");
  add("machine_hours");
  if (has_power) add("kwh");
  if (has_own) add("own_cost");
  if (has_rent) add("rent_cost");
  auto money = [](const std::optional<Between>& range) {
    return range ? Cell{range_text(*range, ""), range->middle()} : Cell{};
  };
  for (const MeasuredCostRow& row : cost.rows) {
    const double hours = row.hours_per_million();
    std::vector<Cell> cells = {text_cell(row_name(row, strings)),
                               {range_text(row.tok_s, ""), row.tok_s.middle()},
                               number_cell(hours, decimals_for(hours))};
    if (has_power) cells.push_back(number_cell(row.kwh, 3));
    if (has_own) cells.push_back(money(row.own));
    if (has_rent) cells.push_back(money(row.rent));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

// What the prices are, and from when on buying pays.
std::vector<std::string> sentences_of(const MeasuredCost& cost, const Strings& strings) {
  const CostInputs& prices = cost.prices;
  const CostWishes& wishes = cost.wishes;
  const std::string busy_percent = fixed(100.0 * prices.busy, 0);
  std::vector<std::string> lines;
  if (prices.own) {
    const Owning& own = *prices.own;
    lines.push_back(strings("cost.own", {{"price", range_text(own.purchase, prices.currency)},
                                         {"years", fmt::format("{:.3g}", wishes.life_years)},
                                         {"percent", busy_percent}}));
    lines.push_back(
        own.busy_w > 0.0
            ? strings(cost.watt_is_measured ? "cost.power_measured" : "cost.power",
                      {{"busy_w", fixed(own.busy_w, 0)},
                       {"idle_w", fixed(own.idle_w, 0)},
                       {"kwh_price", range_text(own.electricity_per_kwh, prices.currency)}})
            : strings("cost.no_power"));
  }
  if (prices.rent && prices.rent->per_month) {
    lines.push_back(strings(
        "cost.month", {{"price", amount_text(*prices.rent->per_month) + " " + prices.currency},
                       {"percent", busy_percent}}));
  } else if (prices.rent) {
    lines.push_back(
        strings("cost.rent", {{"price", range_text(prices.rent->per_hour, prices.currency)}}));
  }
  if (!cost.break_even) return lines;
  const BreakEven& even = *cost.break_even;
  lines.push_back(even.exists
                      ? strings(even.within_life ? "cost.break_even" : "cost.break_even_late",
                                {{"hours", range_text(even.own_hours, "")}})
                      : strings("cost.never"));
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "- " + line + "\n";
  return text;
}

}  // namespace

std::string cost_text(const Json& measurement, const Strings& strings, bool bold) {
  const auto cost = measured_cost(measurement);
  if (!cost || !cost->wishes.names_a_price()) return "";
  return fmt::format("{}\n{}{}", strings("cost"), table_of(*cost, strings).text(bold),
                     joined(sentences_of(*cost, strings)));
}

std::string cost_markdown(const Json& measurement, const Strings& strings) {
  const auto cost = measured_cost(measurement);
  if (!cost || !cost->wishes.names_a_price()) return "";
  return fmt::format("## {}\n\n{}\n{}", strings("cost"), table_of(*cost, strings).markdown(),
                     joined(sentences_of(*cost, strings)));
}

void add_cost_section(const Json& measurement, const Strings& strings, HtmlReport& html) {
  const auto cost = measured_cost(measurement);
  if (!cost || cost->rows.empty()) return;
  html.section(strings("cost"));
  html.paragraph(strings("cost.note"), "note");
  html.table(table_of(*cost, strings));
  if (!cost->wishes.names_a_price()) html.paragraph(strings("cost.no_prices"));
  for (const std::string& line : sentences_of(*cost, strings)) html.paragraph(line);
}

}  // namespace quench
