#include "apps/usage.h"

#include <algorithm>
#include <cstdio>
#include <limits>

#include "base/result.h"

namespace quench {
namespace {

size_t alignment_distance(std::string_view a, std::string_view b) {
  // Rows i - 2, i - 1 and i of the table of distances of prefixes.
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = a[i - 1] == b[j - 1];
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

// The verb that was named, or the program.
const CLI::App& innermost(const CLI::App& app, std::string& command) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    command += " " + at->get_name();
  }
  return *at;
}

std::vector<std::string> verb_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(verb->get_name());
  return names;
}

std::vector<std::string> flag_names(const CLI::App& verb) {
  std::vector<std::string> names;
  for (const CLI::Option* option : verb.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

std::string join(std::span<const std::string> words, const char* between) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : between) + word;
  return all;
}

std::string unknown_verb(const CLI::App& app, const std::vector<std::string>& rest) {
  const std::vector<std::string> verbs = verb_names(app);
  if (rest.empty()) return "Expected one of " + join(verbs, ", ");
  const std::string meant = closest_name(rest.front(), verbs);
  if (!meant.empty()) return "Unknown \"" + rest.front() + "\"; was \"" + meant + "\" meant?";
  return "Unknown \"" + rest.front() + "\"; known are " + join(verbs, ", ");
}

// CLI11 lists all that it could not place, the values of an unknown flag among them: what went
// wrong is the flag.
std::string unexpected(const CLI::App& verb, const std::vector<std::string>& rest) {
  const auto flag = std::find_if(rest.begin(), rest.end(),
                                 [](const std::string& word) { return word.starts_with('-'); });
  if (flag == rest.end())
    return (rest.size() == 1 ? "One argument too many: " : "Arguments too many: ") +
           join(rest, " ");
  const std::string name = flag->substr(0, flag->find('='));
  const std::string meant = closest_name(name, flag_names(verb));
  return "Unknown flag " + name + (meant.empty() ? "" : "; was " + meant + " meant?");
}

}  // namespace

std::string closest_name(std::string_view typed, std::span<const std::string> known) {
  std::string closest;
  size_t least = typed.size() / 3 + 1;  // one more than is taken
  for (const std::string& name : known) {
    const size_t distance = alignment_distance(typed, name);
    if (distance >= least) continue;
    least = distance;
    closest = name;
  }
  return closest;
}

std::vector<std::string> spelled_out(std::vector<std::string> arguments) {
  if (!arguments.empty() && arguments.front() == "help") {
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
  }
  return arguments;
}

int usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string command = "quench";
  const CLI::App& verb = innermost(app, command);
  const std::vector<std::string> rest = app.remaining(true);
  std::string what = error.what();
  // The largest of all numbers, in 309 digits, is no bound that helps anybody.
  const std::string unbounded = "0.000000 to " + std::to_string(std::numeric_limits<double>::max());
  if (const size_t at = what.find(unbounded); at != std::string::npos)
    what.replace(at, unbounded.size(), "0 and more");
  const bool lacks_verb = verb.get_require_subcommand_min() > 0;
  if (!rest.empty() && (rest.front().starts_with('-') || !lacks_verb)) {
    what = unexpected(verb, rest);
  } else if (lacks_verb) {
    what = unknown_verb(verb, rest);
  }
  std::fprintf(stderr, "quench: %s%s See `%s --help`.\n", what.c_str(),
               what.ends_with('?') ? "" : ".", command.c_str());
  return exit_status(ErrorCode::kInvalidArgument);
}

}  // namespace quench
