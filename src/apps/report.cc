// quench report: the report of a measurement that was kept, in either language.
#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "measure/records.h"
#include "measure/report/lookup.h"
#include "measure/report/shootout_report.h"

namespace quench {
namespace {

constexpr const char* kReportExamples = R"(Examples:
  quench report shootout.json                          on the terminal
  quench report shootout.json -o report.html           a page with charts
  quench report shootout.json -o report.md --lang zh   Markdown, in Chinese)";

struct ReportFlags {
  std::string file;
  std::string out;
  std::string lang;
};

Result<void> run_report(const ReportFlags& flags) {
  const bool is_html = flags.out.ends_with(".html") || flags.out.ends_with(".htm");
  if (!flags.out.empty() && !is_html && !flags.out.ends_with(".md")) {
    return fail(
        ErrorCode::kInvalidArgument,
        "{}: the name of the report says its kind; expected one that ends with .html or .md.",
        flags.out);
  }
  QUENCH_TRY(const Json json, read_json_file(flags.file));
  QUENCH_TRY_VOID(validate_shootout(json, flags.file));
  const std::string own = text(json, "/settings/lang");
  const std::string lang = !flags.lang.empty() ? flags.lang : own == "zh" ? "zh" : "en";
  const Strings& strings = Strings::of(lang);
  if (flags.out.empty()) {
    std::fputs(shootout_text(json, strings, stdout_takes_style()).c_str(), stdout);
    return {};
  }
  QUENCH_TRY_VOID(check_output_path(flags.out));
  QUENCH_TRY_VOID(write_file_atomic(
      flags.out, is_html ? shootout_html(json, strings) : shootout_markdown(json, strings)));
  std::printf("Report: %s\n", flags.out.c_str());
  return {};
}

}  // namespace

void add_report(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* verb = app.add_subcommand("report", "The report of a shootout that was kept as JSON");
  verb->footer(kReportExamples);
  verb->add_option("FILE", flags->file, "What `quench shootout --json` wrote")->required();
  verb->add_option("-o,--out", flags->out, "Write it to this file: NAME.html or NAME.md");
  verb->add_option("--lang", flags->lang, "Language of the report (default: that of the prompts)")
      ->check(CLI::IsMember(Strings::languages()));
  verb->callback([flags, &chosen] { chosen = [flags] { return run_report(*flags); }; });
}

}  // namespace quench
