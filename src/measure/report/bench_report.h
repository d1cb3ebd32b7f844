// A measured bench (quench.record/1) for people, in any language of strings.h: as text for a
// terminal, as Markdown, as a page of HTML, and one CSV row per run. All are made from its JSON, so
// that a kept record gives the same report as the run that wrote it. Pure functions; the JSON has
// passed validate_measurement().
#pragma once

#include "measure/report/strings.h"
#include "measure/report/table.h"

namespace quench {

// What each task took, what speed that is, and what came of each level of load.
Table latency_table(const Json& record, const Strings& strings);
Table speed_table(const Json& record, const Strings& strings);
Table load_table(const Json& record, const Strings& strings);
bool has_counted_runs(const Json& record);
// "4 at once" or "0.5 per second".
std::string load_name(const Json& level, const Strings& strings);

// What was measured, on what, how: a line each.
std::string model_line(const Json& record, const Strings& strings);
std::string machine_line(const Json& record, const Strings& strings);
std::string protocol_line(const Json& record, const Strings& strings);
// What the columns with intervals mean, for the smallest number of runs that a task has.
std::string interval_line(const Json& record, const Strings& strings);
// Cold costs, warm-ups, memory, machine, energy: sentences.
std::vector<std::string> figure_lines(const Json& record, const Strings& strings);
// What the reader has to know, of any measurement that has "problems" and "complete".
std::vector<std::string> problem_lines(const Json& record, const Strings& strings);

std::string bench_text(const Json& record, const Strings& strings, bool bold);
std::string bench_markdown(const Json& record, const Strings& strings);
std::string bench_html(const Json& record, const Strings& strings);
// Every run, warm-ups and those under load too.
Table run_table(const Json& record);

}  // namespace quench
