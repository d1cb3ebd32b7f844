// A comparison (quench.compare/1) as a page of HTML, in any language of strings.h. Pure function.
#pragma once

#include "measure/report/strings.h"

namespace quench {

// a, b: the records that were compared, for the charts of their runs; null where they are not at
// hand. What the comparison found to say of causes and costs stays in English.
std::string compare_html(const Json& comparison, const Json& a, const Json& b,
                         const Strings& strings);

}  // namespace quench
