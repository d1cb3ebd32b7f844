// quench ceilings: what this machine can do at most.
#include <cstdio>
#include <ctime>

#include "apps/options.h"
#include "apps/verbs.h"
#include "measure/analyze/deploy.h"
#include "measure/report/table.h"
#include "plan/ceilings.h"

namespace quench {
namespace {

constexpr const char* kCeilingsExamples = R"~(Examples:
  quench ceilings
  quench ceilings --measure --json
  quench ceilings --isa avx2 --threads 1)~";

struct CeilingsFlags {
  std::string device = "cpu";
  DeviceOptions options;
  bool measure = false;
  bool json = false;
};

Table ceilings_table(const Ceilings& ceilings) {
  Table table;
  table.columns = {{"limit", "limit", Align::kLeft},
                   {"best", "best"},
                   {"median", "median"},
                   {"unit", "", Align::kLeft},
                   {"how", "", Align::kLeft}};
  auto row = [&](const std::string& name, const Rate& rate, const char* unit,
                 const std::string& how) {
    table.rows.push_back({text_cell(name), number_cell(rate.best, 1), number_cell(rate.median, 1),
                          text_cell(unit), text_cell(how)});
  };
  for (const ReadCeiling& read : ceilings.read) {
    row("read, " + read.level, read.read_gb_s, "GB/s",
        fmt::format("{:.1f} MB, {} streams per thread{}",
                    static_cast<double>(read.working_set_bytes) / 1e6, read.streams,
                    read.prefetch_bytes > 0
                        ? fmt::format(", fetched {} bytes ahead", read.prefetch_bytes)
                        : ""));
  }
  row("f32 multiply-add", ceilings.f32_gflop_s, "GFLOP/s", "");
  row("bf16 dot product", ceilings.bf16_gflop_s, "GFLOP/s", "");
  row("int8 dot product", ceilings.int8_gop_s, "GOP/s", "");
  return table;
}

Result<void> ceilings(const CeilingsFlags& flags) {
  QUENCH_TRY(const auto device, open_device(flags.device, flags.options));
  QUENCH_TRY(const Ceilings measured, cached_ceilings(*device, flags.measure));
  if (flags.json) {
    print_json(ceilings_json(measured));
    return {};
  }
  const auto age_s = static_cast<long long>(std::time(nullptr)) - measured.unix_time_s;
  std::printf("%s, ISA level %s, %d threads%s; measured in %.1f s%s\n\n",
              measured.cpu_model.empty() ? "unknown CPU" : measured.cpu_model.c_str(),
              measured.isa.c_str(), measured.threads,
              measured.quota_cpus
                  ? fmt::format(", a quota of {:.2f} CPUs", *measured.quota_cpus).c_str()
                  : "",
              measured.measure_s,
              age_s < 60 ? "" : fmt::format(" {} min ago (--measure: again)", age_s / 60).c_str());
  std::fputs(ceilings_table(measured).text(stdout_takes_style()).c_str(), stdout);
  if (const auto why = disturbance_sentence(measured)) {
    std::printf("! Disturbed: %s. These figures are kept for %lld minutes, not for a day.\n",
                Strings::of("en")(*why).c_str(), static_cast<long long>(measured.keep_s() / 60));
  }
  return {};
}

}  // namespace

void add_ceilings(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<CeilingsFlags>();
  CLI::App* verb =
      app.add_subcommand("ceilings", "What this machine can do at most: memory and arithmetic");
  verb->footer(kCeilingsExamples);
  add_device_options(*verb, flags->device, flags->options);
  verb->add_flag("--measure", flags->measure,
                 "Measure now, also where a result is kept (a day, a disturbed one some minutes)");
  verb->add_flag("--json", flags->json, "JSON instead of a table");
  verb->callback([flags, &chosen] { chosen = [flags] { return ceilings(*flags); }; });
}

}  // namespace quench
