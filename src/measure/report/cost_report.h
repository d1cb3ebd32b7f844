// What the tokens of a measured model cost, for people: as a table with sentences, as a part of a
// page. Of a quench.record/1 or a quench.shootout/1, whose "cost" has the prices. Pure functions.
#pragma once

#include "measure/report/html.h"
#include "measure/report/table.h"

namespace quench {

// For a terminal, or as Markdown; empty where no price was named, or "cost" is malformed.
std::string cost_text(const Json& measurement, const Strings& strings, bool bold);
std::string cost_markdown(const Json& measurement, const Strings& strings);
// A section of a page; without prices it has the hours of the machine and says how to name prices.
void add_cost_section(const Json& measurement, const Strings& strings, HtmlReport& html);

}  // namespace quench
