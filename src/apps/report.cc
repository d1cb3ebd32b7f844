// quench report: the report of a measurement that was kept, in either language.
#include <cstdio>

#include "apps/options.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "measure/analyze/measured_cost.h"
#include "measure/records.h"
#include "measure/report/bench_report.h"
#include "measure/report/grid_report.h"
#include "measure/report/lookup.h"
#include "measure/report/shootout_report.h"

namespace quench {
namespace {

constexpr const char* kReportExamples = R"(Examples:
  quench report shootout.json                          on the terminal
  quench report bench.json -o report.html              of a bench, too
  quench report shootout.json -o report.html           a page with charts
  quench report shootout.json -o report.md --lang zh   Markdown, in Chinese
  quench report shootout.json --rent 0.50USD           with what a million tokens cost)";

struct ReportFlags {
  std::string file;
  std::string out;
  std::string lang;
  CostWishes cost;
};

// What makes the reports of one kind of measurement.
struct Maker {
  std::string (*text)(const Json& json, const Strings& strings, bool bold);
  std::string (*markdown)(const Json& json, const Strings& strings);
  std::string (*html)(const Json& json, const Strings& strings);
};

Result<Maker> maker_for(const Json& json, const std::string& file) {
  const std::string schema = json.is_object() ? text(json, "/schema") : "";
  const bool is_grid = schema == "quench.bench/1";
  if (!is_grid && schema != "quench.record/1") {
    QUENCH_TRY_VOID(validate_shootout(json, file));
    return Maker{shootout_text, shootout_markdown, shootout_html};
  }
  if (const auto valid = validate_measurement(json); !valid)
    return fail(ErrorCode::kInvalidFile, "{}: {}", file, valid.error().message);
  return is_grid ? Maker{grid_text, grid_markdown, grid_html}
                 : Maker{bench_text, bench_markdown, bench_html};
}

Result<void> run_report(const ReportFlags& flags) {
  const bool is_html = flags.out.ends_with(".html") || flags.out.ends_with(".htm");
  if (!flags.out.empty() && !is_html && !flags.out.ends_with(".md")) {
    return fail(
        ErrorCode::kInvalidArgument,
        "{}: the name of the report says its kind; expected one that ends with .html or .md.",
        flags.out);
  }
  QUENCH_TRY(Json json, read_json_file(flags.file));
  QUENCH_TRY(const Maker maker, maker_for(json, flags.file));
  if (flags.cost.names_a_price() && text(json, "/schema") == "quench.bench/1") {
    return fail(ErrorCode::kInvalidArgument,
                "{}: prefill and decode alone are not answers, so they have no cost; expected what "
                "`quench shootout` or `quench bench` without --pp and --tg wrote.",
                flags.file);
  }
  QUENCH_TRY_VOID(add_cost(flags.cost, json));
  const std::string own = text(json, "/settings/lang");
  const std::string lang = !flags.lang.empty() ? flags.lang : own == "zh" ? "zh" : "en";
  const Strings& strings = Strings::of(lang);
  if (flags.out.empty()) {
    std::fputs(maker.text(json, strings, stdout_takes_style()).c_str(), stdout);
    return {};
  }
  QUENCH_TRY_VOID(check_output_path(flags.out));
  QUENCH_TRY_VOID(write_file_atomic(
      flags.out, is_html ? maker.html(json, strings) : maker.markdown(json, strings)));
  std::printf("Report: %s\n", flags.out.c_str());
  return {};
}

}  // namespace

void add_report(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* verb =
      app.add_subcommand("report", "The report of a measurement that was kept as JSON");
  verb->footer(kReportExamples);
  verb->add_option("FILE", flags->file,
                   "What `quench shootout` or `quench bench` wrote with --json")
      ->required();
  verb->add_option("-o,--out", flags->out, "Write it to this file: NAME.html or NAME.md");
  verb->add_option("--lang", flags->lang, "Language of the report (default: that of the prompts)")
      ->check(CLI::IsMember(Strings::languages()));
  add_cost_options(*verb, flags->cost);
  verb->callback([flags, &chosen] { chosen = [flags] { return run_report(*flags); }; });
}

}  // namespace quench
