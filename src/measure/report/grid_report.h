// The speed of the model alone (quench.bench/1) for people, in any language of strings.h. Made from
// the JSON, so that a kept grid gives the same table as the run that wrote it. Pure functions; the
// JSON has passed validate_measurement().
#pragma once

#include "measure/report/strings.h"
#include "measure/report/table.h"

namespace quench {

Table grid_table(const Json& grid, const Strings& strings);
std::string grid_text(const Json& grid, const Strings& strings, bool bold);
std::string grid_markdown(const Json& grid, const Strings& strings);
std::string grid_html(const Json& grid, const Strings& strings);

}  // namespace quench
