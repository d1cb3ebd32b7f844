// What is said when the command line itself is wrong, and help that is asked for in other words.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace quench {

// Of `known` the name that `typed` was probably meant to be: the one with the fewest letters
// inserted, dropped, replaced or swapped with the next (optimal string alignment), at most a third
// of its letters. "" where there is none.
std::string closest_name(std::string_view typed, std::span<const std::string> known);

// `quench help VERB` is `quench VERB --help`.
std::vector<std::string> spelled_out(std::vector<std::string> arguments);

// One sentence on stderr: what is wrong, what was probably meant, whose --help to read. Returns the
// exit status.
int usage_error(const CLI::App& app, const CLI::ParseError& error);

}  // namespace quench
