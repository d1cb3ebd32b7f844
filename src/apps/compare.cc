// quench compare: two records side by side, and what the difference is made of.
#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "measure/analyze/compare.h"

namespace quench {
namespace {

constexpr const char* kCompareExamples = R"~(Examples:
  quench compare before.json after.json
  quench compare laptop.json server.json --json
  quench compare --typed mine.json > mine.record.json)~";

struct CompareFlags {
  std::string a, b, typed;
  double alpha = 0.01;
  std::string output = "text";
};

Result<Json> read_record(const std::string& path) {
  QUENCH_TRY(const Json json, read_json_file(path));
  return to_record(json, path);
}

Result<void> compare(const CompareFlags& flags) {
  if (!flags.typed.empty()) {
    QUENCH_TRY(const Json record, read_record(flags.typed));
    print_json(record);
    return {};
  }
  if (flags.a.empty() || flags.b.empty())
    return fail(ErrorCode::kInvalidArgument, "Name two records: quench compare A.json B.json.");
  QUENCH_TRY(const Json a, read_record(flags.a));
  QUENCH_TRY(const Json b, read_record(flags.b));
  QUENCH_TRY(const Comparison comparison, compare_records(a, b, flags.alpha));
  if (flags.output == "json") {
    print_json(comparison_json(comparison));
  } else if (flags.output == "csv") {
    std::fputs(comparison_table(comparison).csv().c_str(), stdout);
  } else if (flags.output == "md") {
    std::fputs(comparison_table(comparison).markdown().c_str(), stdout);
  } else {
    std::fputs(comparison_text(comparison).c_str(), stdout);
  }
  return {};
}

}  // namespace

void add_compare(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* verb =
      app.add_subcommand("compare", "Two records: faster, slower or cannot tell, and why");
  verb->footer(kCompareExamples);
  verb->add_option("A", flags->a, "A quench.record/1, or a quench.typed/1");
  verb->add_option("B", flags->b, "Another");
  verb->add_option("--typed", flags->typed, "Print the record that a quench.typed/1 stands for");
  verb->add_option("--alpha", flags->alpha, "Chance of calling a difference that is none")
      ->check(CLI::Range(1e-6, 0.5))
      ->capture_default_str();
  for (const char* form : {"json", "csv", "md"}) {
    verb->add_flag_callback(
        fmt::format("--{}", form), [flags, form] { flags->output = form; },
        fmt::format("The table as {}", form));
  }
  verb->callback([flags, &chosen] { chosen = [flags] { return compare(*flags); }; });
}

}  // namespace quench
