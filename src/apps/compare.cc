// quench compare: two records side by side, and what the difference is made of.
#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "measure/analyze/compare.h"
#include "measure/history.h"
#include "measure/report/compare_html.h"

namespace quench {
namespace {

constexpr const char* kCompareExamples = R"~(Examples:
  quench compare before.json after.json
  quench compare laptop.json server.json --json
  quench compare 3f2a 9b01 --html compared.html       of the history (quench history)
  quench compare --typed mine.json > mine.record.json)~";

struct CompareFlags {
  std::string a, b, typed;
  double alpha = 0.01;
  std::string output = "text";
  std::string html_path;
  std::string lang = "en";
};

// A file, or the beginning of the id of a measurement that was kept.
Result<Json> read_record(const std::string& name) {
  if (file_exists(name)) {
    QUENCH_TRY(const Json json, read_json_file(name));
    return to_record(json, name);
  }
  QUENCH_TRY(const std::string path, history_path());
  if (file_exists(path)) {
    QUENCH_TRY(const auto history, History::open(path));
    const auto json = history->get(name);
    if (json) return to_record(*json, name);
    if (json.error().code != ErrorCode::kNotFound) return tl::unexpected(json.error());
  }
  return fail(ErrorCode::kNotFound,
              "{}: there is neither such a file nor a measurement of this id (quench history).",
              name);
}

Result<void> compare(const CompareFlags& flags) {
  if (!flags.typed.empty()) {
    QUENCH_TRY(const Json record, read_record(flags.typed));
    print_json(record);
    return {};
  }
  if (flags.a.empty() || flags.b.empty())
    return fail(ErrorCode::kInvalidArgument, "Name two records: quench compare A.json B.json.");
  if (!flags.html_path.empty()) QUENCH_TRY_VOID(check_output_path(flags.html_path));
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
  if (flags.html_path.empty()) return {};
  const std::string page = compare_html(comparison_json(comparison), a, b, Strings::of(flags.lang));
  QUENCH_TRY_VOID(write_file_atomic(flags.html_path, page));
  if (flags.output == "text") std::printf("\nReport: %s\n", flags.html_path.c_str());
  return {};
}

}  // namespace

void add_compare(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* verb =
      app.add_subcommand("compare", "Two records: faster, slower or cannot tell, and why");
  verb->footer(kCompareExamples);
  verb->add_option("A", flags->a,
                   "What `quench bench --json` wrote, a quench.typed/1, or an id of the history");
  verb->add_option("B", flags->b, "Another");
  verb->add_option("--typed", flags->typed, "Print the record that a quench.typed/1 stands for");
  verb->add_option("--alpha", flags->alpha, "Chance of calling a difference that is none")
      ->check(CLI::Range(1e-6, 0.5))
      ->capture_default_str();
  verb->add_option("--html", flags->html_path, "Write a report with charts to this file, too");
  verb->add_option("--lang", flags->lang, "Language of that report")
      ->check(CLI::IsMember(Strings::languages()))
      ->capture_default_str();
  for (const char* form : {"json", "csv", "md"}) {
    verb->add_flag_callback(
        fmt::format("--{}", form), [flags, form] { flags->output = form; },
        fmt::format("The table as {}", form));
  }
  verb->callback([flags, &chosen] { chosen = [flags] { return compare(*flags); }; });
}

}  // namespace quench
