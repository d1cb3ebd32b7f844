// The verbs of the program: one file each. add_<verb> declares its flags; when the user names it,
// its callback sets `chosen` to the function that does the work, which main() calls after all flags
// are parsed.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "base/result.h"

namespace quench {

using Verb = std::function<Result<void>()>;

void add_shootout(CLI::App& app, Verb& chosen);
void add_report(CLI::App& app, Verb& chosen);
void add_quantize(CLI::App& app, Verb& chosen);
void add_eval(CLI::App& app, Verb& chosen);
void add_bench(CLI::App& app, Verb& chosen);
void add_history(CLI::App& app, Verb& chosen);
void add_monitor(CLI::App& app, Verb& chosen);
void add_ceilings(CLI::App& app, Verb& chosen);
void add_plan(CLI::App& app, Verb& chosen);
void add_explain(CLI::App& app, Verb& chosen);
void add_compare(CLI::App& app, Verb& chosen);
void add_run(CLI::App& app, Verb& chosen);
void add_inspect(CLI::App& app, Verb& chosen);
void add_tokenize(CLI::App& app, Verb& chosen);
void add_logits(CLI::App& app, Verb& chosen);
void add_list(CLI::App& app, Verb& chosen);
void add_check(CLI::App& app, Verb& chosen);
void add_convert(CLI::App& app, Verb& chosen);

}  // namespace quench
