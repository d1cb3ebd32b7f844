// The shootout for people: on a terminal, and as a Markdown file.
#pragma once

#include <string>

#include "measure/report/table.h"
#include "measure/shootout.h"

namespace quench {

// One row per profile; what is not measured is "-".
Table shootout_table(const Shootout& shootout);
// Mean KL divergence and perplexity per domain.
Table domain_table(const Shootout& shootout);
// Table, recommendation, how it was measured.
std::string shootout_text(const Shootout& shootout, bool bold);
std::string shootout_markdown(const Shootout& shootout, const std::string& time);

}  // namespace quench
