// quench check: does every kernel do on this machine what ref/ says?
#include <algorithm>
#include <cstdio>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "devices/conformance.h"
#include "measure/report/table.h"
#include "plan/kernel_times.h"

namespace quench {
namespace {

constexpr const char* kCheckExamples = R"~(Examples:
  quench check --quick
  quench check --time                  every kernel's speed as a share of this machine's limits
  quench check --time --format int4 --threads 1
  quench check --isa avx2
  quench check --json > check.json)~";

struct CheckFlags {
  std::string isa;
  bool quick = false;
  bool time = false;
  std::vector<std::string> formats;
  int num_threads = 0;
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

Table times_table(const std::vector<KernelTime>& times) {
  Table table;
  table.columns = {{"format", "format", Align::kLeft},
                   {"kernel", "kernel", Align::kLeft},
                   {"decode_gb_s", "1 token GB/s"},
                   {"decode_share", "of the limit %"},
                   {"prefill_gop_s", "256 tokens GOP/s"},
                   {"prefill_share", "of the limit %"},
                   {"packed_bytes", "MB"}};
  for (const KernelTime& time : times) {
    const bool prefill = time.prefill_tokens > 0;
    auto timed = [&](double value, int decimals, double scale) {
      return number_cell(prefill ? std::optional(value) : std::nullopt, decimals, scale);
    };
    table.rows.push_back(
        {text_cell(time.format), text_cell(time.kernel), number_cell(time.decode_gb_s.median, 1),
         number_cell(time.decode_share, 0, 100.0), timed(time.prefill_gop_s.median, 0, 1.0),
         timed(time.prefill_share, 0, 100.0),
         number_cell(static_cast<double>(time.packed_bytes), 0, 1e-6)});
  }
  return table;
}

Result<void> time_all(const CheckFlags& flags) {
  std::vector<const Format*> formats;
  for (const std::string& name : flags.formats) {
    QUENCH_TRY(const Format* format, require_format(name));
    formats.push_back(format);
  }
  if (formats.empty())
    for (const Format& format : all_formats()) formats.push_back(&format);
  QUENCH_TRY(const auto device, open_device("cpu", {flags.isa, flags.num_threads}));
  // In the same minute, because these limits move with the neighbours.
  QUENCH_TRY(const Ceilings ceilings, cached_ceilings(*device, true));
  install_interrupt_flag();
  ProgressLine progress;
  QUENCH_TRY(const auto times,
             time_kernels(*device, ceilings, formats,
                          [&](size_t done, size_t total, const std::string& format) {
                            progress.show("timing", static_cast<int64_t>(done),
                                          static_cast<int64_t>(total), format);
                            return !interrupt_flag();
                          }));
  progress.clear();
  const Table table = times_table(times);
  if (flags.json) {
    print_json({{"schema", "quench.kernel_times/1"},
                {"ceilings", ceilings_json(ceilings)},
                {"kernels", table.json()}});
    return {};
  }
  std::printf(
      "%s, ISA level %s, %d threads; medians of turns, each beside a plain read of the same bytes "
      "or as many operations\n\n",
      ceilings.cpu_model.c_str(), ceilings.isa.c_str(), ceilings.threads);
  std::fputs(table.text(stdout_takes_style()).c_str(), stdout);
  return {};
}

Result<void> check(const CheckFlags& flags) {
  if (flags.time) return time_all(flags);
  if (!flags.formats.empty() || flags.num_threads != 0) {
    return fail(ErrorCode::kInvalidArgument,
                "--format and --threads belong to --time; without it every kernel is judged.");
  }
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
  CLI::App* verb = app.add_subcommand(
      "check", "Judge every kernel of this machine against the reference; with --time, its speed");
  verb->footer(kCheckExamples);
  verb->add_option("--isa", flags->isa, "Only this CPU instruction-set level; default: all it has");
  verb->add_flag("--quick", flags->quick, "Fewer shapes: seconds instead of minutes");
  verb->add_flag("--time", flags->time, "Not whether they are right: how near to the limits");
  verb->add_option("--format", flags->formats, "With --time: only these formats");
  verb->add_option("--threads", flags->num_threads, "With --time: threads; 0: the usual number")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("--json", flags->json, "JSON instead of a table");
  verb->callback([flags, &chosen] { chosen = [flags] { return check(*flags); }; });
}

}  // namespace quench
