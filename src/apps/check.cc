// quench check: does every kernel do on this machine what ref/ says?
#include <algorithm>
#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "devices/conformance.h"

namespace quench {
namespace {

constexpr const char* kCheckExamples = R"~(Examples:
  quench check --quick
  quench check --isa avx2
  quench check --json > check.json)~";

struct CheckFlags {
  std::string isa;
  bool quick = false;
  bool json = false;
};

// All cases of one kernel or op.
struct Group {
  std::string name = {};
  int64_t cases = 0;
  int64_t failed = 0;
  double error = 0.0;      // of the case that comes nearest to its tolerance
  double tolerance = 0.0;  // of that case
  std::vector<std::string> messages = {};

  double ratio() const { return error == 0.0 ? 0.0 : error / std::max(tolerance, 1e-300); }
};

std::vector<Group> group_results(const std::vector<ConformanceResult>& results) {
  std::vector<Group> groups;
  for (const ConformanceResult& result : results) {
    const auto same = [&](const Group& group) { return group.name == result.name; };
    auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) group = groups.insert(groups.end(), Group{result.name});
    const Group one{.error = result.error, .tolerance = result.tolerance};
    if (group->cases == 0 || one.ratio() > group->ratio()) {
      group->error = result.error;
      group->tolerance = result.tolerance;
    }
    ++group->cases;
    if (result.passed) continue;
    ++group->failed;
    group->messages.push_back(fmt::format("{}: {}", result.shape, result.message));
  }
  return groups;
}

void print_level(const std::string& level, const std::vector<Group>& groups) {
  std::printf("level %s\n", level.c_str());
  if (groups.empty()) std::puts("  nothing of its own: all rows are those of the level below");
  if (!groups.empty()) {
    std::printf("  %-20s %6s  %12s  %10s  %s\n", "kernel or op", "cases", "worst error", "allowed",
                "ok");
  }
  constexpr size_t kShown = 5;
  for (const Group& group : groups) {
    std::printf("  %-20s %6lld  %12.2e  %10.2e  %s\n", group.name.c_str(),
                static_cast<long long>(group.cases), group.error, group.tolerance,
                group.failed == 0 ? "yes" : fmt::format("NO, {} fail", group.failed).c_str());
    for (size_t i = 0; i < std::min(kShown, group.messages.size()); ++i) {
      std::printf("    %s\n", group.messages[i].c_str());
    }
    if (group.messages.size() > kShown) {
      std::printf("    and %zu more\n", group.messages.size() - kShown);
    }
  }
  std::fflush(stdout);
}

Json to_json(const std::string& level, const std::vector<Group>& groups) {
  Json rows = Json::array();
  for (const Group& group : groups) {
    rows.push_back({{"name", group.name},
                    {"cases", group.cases},
                    {"failed", group.failed},
                    {"worst_error", group.error},
                    {"tolerance", group.tolerance},
                    {"messages", group.messages}});
  }
  return {{"isa", level}, {"kernels", rows}};
}

Result<void> check(const CheckFlags& flags) {
  std::vector<std::string> levels = {flags.isa};
  if (flags.isa.empty()) levels = list_devices().at(0).levels;
  Conformance conformance(flags.quick ? Effort::kQuick : Effort::kFull);
  Json json_levels = Json::array();
  int64_t failed = 0;
  std::string good;  // the highest level without a failure
  std::string bad;
  for (const std::string& level : levels) {
    QUENCH_TRY(const auto results, conformance.judge("cpu", level));
    const std::vector<Group> groups = group_results(results);
    int64_t failed_here = 0;
    for (const Group& group : groups) failed_here += group.failed;
    failed += failed_here;
    if (failed_here > 0 && bad.empty()) bad = level;
    if (bad.empty()) good = level;
    if (flags.json) {
      json_levels.push_back(to_json(level, groups));
    } else {
      print_level(level, groups);
    }
  }
  if (flags.json) {
    const Json json = {
        {"schema", "quench.check/1"}, {"levels", json_levels}, {"passed", failed == 0}};
    std::puts(json.dump(2).c_str());
  }
  if (failed == 0) return {};
  return fail(
      ErrorCode::kInternal,
      "{} case{} failed from level {} on: run with --isa {} (or QUENCH_ISA={}) until this is "
      "mended, and report it as a bug with this output and the CPU that `quench list devices` "
      "names.",
      failed, failed == 1 ? "" : "s", bad, good.empty() ? "ref" : good,
      good.empty() ? "ref" : good);
}

}  // namespace

void add_check(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<CheckFlags>();
  CLI::App* verb =
      app.add_subcommand("check", "Judge every kernel of this machine against the reference");
  verb->footer(kCheckExamples);
  verb->add_option("--isa", flags->isa, "Only this CPU instruction-set level; default: all it has");
  verb->add_flag("--quick", flags->quick, "Fewer shapes: seconds instead of minutes");
  verb->add_flag("--json", flags->json, "JSON instead of a table");
  verb->callback([flags, &chosen] { chosen = [flags] { return check(*flags); }; });
}

}  // namespace quench
