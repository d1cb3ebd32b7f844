// quench compare: two records side by side, or two models measured here in turns, and what the
// difference is made of.
#include <cstdio>

#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "base/file.h"
#include "measure/analyze/live_compare.h"
#include "measure/history.h"
#include "measure/report/compare_html.h"

namespace quench {
namespace {

constexpr const char* kCompareExamples = R"~(Examples:
  quench compare before.json after.json
  quench compare laptop.json server.json --json
  quench compare demo demo --live --format-b int8       two models here, in turns
  quench compare Qwen2.5-7B Qwen2.5-14B --live --random-weights --layers 2 --format int4_g128
  quench compare 3f2a 9b01 --html compared.html       of the history (quench history)
  quench compare --typed mine.json > mine.record.json)~";

// What one side has instead of what both have.
struct SideFlags {
  std::string format, isa;
  std::optional<int> threads;
};

struct CompareFlags {
  std::string a, b, typed;
  double alpha = 0.01;
  std::string output = "text";
  bool live = false;
  LiveCompareOptions options;
  SessionOptions both;
  SideFlags side_a, side_b;
  double find_percent = 0.0;
  std::vector<const CLI::Option*> live_only;
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

Result<SessionOptions> session_of(const SessionOptions& both, const std::string& model,
                                  const SideFlags& side) {
  SessionOptions session = both;
  session.model = model;
  if (!side.format.empty()) {
    session.format.clear();
    QUENCH_TRY(session, session_for_profile(session, side.format));
  }
  if (!side.isa.empty()) session.device_options.isa = side.isa;
  if (side.threads) session.device_options.num_threads = *side.threads;
  return session;
}

Result<Comparison> compare_here(const CompareFlags& flags) {
  install_interrupt_flag();
  LiveCompareOptions options = flags.options;
  QUENCH_TRY(options.a, session_of(flags.both, flags.a, flags.side_a));
  QUENCH_TRY(options.b, session_of(flags.both, flags.b, flags.side_b));
  options.alpha = flags.alpha;
  options.find = flags.find_percent / 100.0;
  options.stop = &interrupt_flag();
  ProgressLine line(true);
  options.progress = [&](const std::string& stage, int64_t done, int64_t total) {
    line.show(stage, done, total);
  };
  auto comparison = compare_live(options);
  line.clear();
  return comparison;
}

Result<void> compare(const CompareFlags& flags) {
  if (!flags.typed.empty()) {
    QUENCH_TRY(const Json record, read_record(flags.typed));
    print_json(record);
    return {};
  }
  if (flags.a.empty() || flags.b.empty())
    return fail(ErrorCode::kInvalidArgument,
                "Name two records, quench compare A.json B.json, or two models with --live.");
  if (!flags.html_path.empty()) QUENCH_TRY_VOID(check_output_path(flags.html_path));
  Json a, b;  // the records, where there are some
  if (!flags.live) {
    QUENCH_TRY(a, read_record(flags.a));
    QUENCH_TRY(b, read_record(flags.b));
  }
  QUENCH_TRY(const Comparison comparison,
             flags.live ? compare_here(flags) : compare_records(a, b, flags.alpha));
  const Strings& strings = Strings::of(flags.lang);
  if (flags.output == "json") {
    print_json(comparison_json(comparison));
  } else if (flags.output == "csv") {
    std::fputs(comparison_table(comparison).csv().c_str(), stdout);
  } else if (flags.output == "md") {
    std::fputs(comparison_markdown(comparison, strings).c_str(), stdout);
  } else {
    std::fputs(comparison_text(comparison, strings).c_str(), stdout);
  }
  if (flags.html_path.empty()) return {};
  const std::string page = compare_html(comparison_json(comparison), a, b, strings);
  QUENCH_TRY_VOID(write_file_atomic(flags.html_path, page));
  if (flags.output == "text")
    std::printf("\n%s %s\n", strings("written.report").c_str(), flags.html_path.c_str());
  return {};
}

void add_live_options(CLI::App& verb, CompareFlags& flags) {
  auto of_live = [&](CLI::Option* option) {
    flags.live_only.push_back(option->group("Two models here (--live)"));
    return option;
  };
  LiveCompareOptions& options = flags.options;
  SessionOptions& both = flags.both;
  of_live(verb.add_flag("--random-weights", both.random_weights,
                        "Seeded random weights; A and B may then be official names"));
  of_live(verb.add_option("--layers", both.num_layers,
                          "Cut both to so many layers; needs --random-weights"))
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16));
  of_live(verb.add_option("--format", both.format, "Format of both (quench list formats)"));
  of_live(verb.add_option("--threads", both.device_options.num_threads,
                          "Threads of both; 0: the CPUs this process may use"))
      ->check(CLI::Range(0, 1024));
  of_live(verb.add_option("--isa", both.device_options.isa, "CPU instruction-set level of both"));
  struct SideNames {
    const char *format, *threads, *isa, *side;
    SideFlags* flags;
  };
  for (const SideNames& names :
       {SideNames{"--format-a", "--threads-a", "--isa-a", "A", &flags.side_a},
        SideNames{"--format-b", "--threads-b", "--isa-b", "B", &flags.side_b}}) {
    const std::string of_side = std::string(" of ") + names.side;
    of_live(verb.add_option(names.format, names.flags->format,
                            "Format, or recipe or recipe file," + of_side));
    of_live(verb.add_option(names.threads, names.flags->threads, "Threads" + of_side))
        ->check(CLI::Range(1, 1024));
    of_live(verb.add_option(names.isa, names.flags->isa, "Level" + of_side));
  }
  constexpr int64_t kLongest = int64_t{1} << 20;
  of_live(verb.add_option("--prompt", options.lengths.prompt_tokens, "Tokens of the prompt"))
      ->check(CLI::Range(int64_t{1}, kLongest))
      ->capture_default_str();
  of_live(verb.add_option("--depth", options.lengths.depth, "Tokens in the cache before decoding"))
      ->check(CLI::Range(int64_t{0}, kLongest))
      ->capture_default_str();
  of_live(verb.add_option("--batch", options.lengths.batch, "Sequences at once"))
      ->check(CLI::Range(int64_t{1}, int64_t{4096}))
      ->capture_default_str();
  of_live(verb.add_option("--pairs", options.pairs, "Pairs of runs, of each test"))
      ->check(CLI::Range(int64_t{1}, kMostPairs))
      ->capture_default_str();
  of_live(verb.add_option("--find", flags.find_percent,
                          "Then go on to the pairs that a difference of so many % needs"))
      ->check(CLI::Range(0.1, 100.0));
  of_live(verb.add_option("--budget", options.budget_s,
                          "Seconds for measuring at most, once the models are loaded"))
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
}

}  // namespace

void add_compare(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* verb = app.add_subcommand(
      "compare", "Two records, or two models here: faster, slower or cannot tell, and why");
  verb->footer(kCompareExamples);
  verb->add_option("A", flags->a,
                   "What `quench bench --json` wrote, a quench.typed/1, or an id of the history; a "
                   "model with --live");
  verb->add_option("B", flags->b, "Another");
  verb->add_option("--typed", flags->typed, "Print the record that a quench.typed/1 stands for");
  verb->add_option("--alpha", flags->alpha, "Chance of calling a difference that is none")
      ->check(CLI::Range(1e-6, 0.5))
      ->capture_default_str();
  verb->add_option("--html", flags->html_path, "Write a report with charts to this file, too");
  verb->add_option("--lang", flags->lang, "Language of the text and the report")
      ->check(CLI::IsMember(Strings::languages()))
      ->capture_default_str();
  for (const char* form : {"json", "csv", "md"}) {
    verb->add_flag_callback(
        fmt::format("--{}", form), [flags, form] { flags->output = form; },
        fmt::format("The table as {}", form));
  }
  verb->add_flag("--live", flags->live, "A and B are models: measure both here, in turns");
  add_live_options(*verb, *flags);
  verb->callback([flags, &chosen] {
    for (const CLI::Option* option : flags->live_only) {
      if (!flags->live && option->count() > 0)
        throw CLI::RequiresError(option->get_name(), "--live");
    }
    chosen = [flags] { return compare(*flags); };
  });
}

}  // namespace quench
