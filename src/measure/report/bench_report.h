// A measured bench for people: as text for a terminal, as Markdown, and one CSV row per run. Pure
// functions.
#pragma once

#include "measure/bench.h"
#include "measure/report/table.h"

namespace quench {

std::string bench_text(const Bench& bench, bool bold);
std::string bench_markdown(const Bench& bench, const std::string& time);
// Every run, warm-ups and those under load too.
Table run_table(const Bench& bench);

}  // namespace quench
