// The shootout for people, in any language of strings.h: on a terminal, as Markdown, as a page of
// HTML. All are made from its JSON (quench.shootout/1), so that a kept file gives the same report
// as the run that wrote it. Pure functions; the JSON has passed validate_shootout().
#pragma once

#include <string>

#include "measure/report/strings.h"
#include "measure/report/table.h"

namespace quench {

// Whether a report can be made of it: rows with a name and a size. `where` names the file.
Result<void> validate_shootout(const Json& shootout, const std::string& where);

// How a shipped task or text is called; any other name is itself.
std::string name_text(const Strings& strings, const std::string& name);

// One row per profile; what is not measured is "-".
Table shootout_table(const Json& shootout, const Strings& strings);
// Mean KL divergence and perplexity per domain.
Table domain_table(const Json& shootout, const Strings& strings);
// The reason of one need ("storage"); in another language than the file's where the file allows it.
std::string reason_text(const Json& shootout, const char* need, const Strings& strings);
// How speed and loss were measured: sentences.
std::vector<std::string> measured_how(const Json& shootout, const Strings& strings);

// Table, recommendation, how it was measured.
std::string shootout_text(const Json& shootout, const Strings& strings, bool bold);
std::string shootout_markdown(const Json& shootout, const Strings& strings);
std::string shootout_html(const Json& shootout, const Strings& strings);

}  // namespace quench
