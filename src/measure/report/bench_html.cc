// A bench as a page: what it found, against what limit, every run, load, and how it was measured.
#include <algorithm>

#include "measure/report/bench_report.h"
#include "measure/report/cost_report.h"
#include "measure/report/lookup.h"
#include "measure/report/page_parts.h"
#include "measure/report/shootout_report.h"
#include "measure/statistics.h"

namespace quench {
namespace {

// From this share of its limit on, the limit is what a run waits for most of the time.
constexpr double kMostlyLimit = 0.6;

// The ceiling of reading that counts for a working set of so many bytes.
const Json& ceiling_for(const Json& record, double bytes) {
  const Json& levels = list(record, "/ceilings/read");
  for (const Json& level : levels) {
    if (bytes <= number(level, "/up_to_bytes").value_or(0.0)) return level;
  }
  static const Json unknown;
  return levels.empty() ? unknown : levels.back();
}

class BenchPage {
 public:
  BenchPage(const Json& record, const Strings& strings)
      : record_(record),
        strings_(strings),
        html_(strings, strings("bench.title", {{"model", model_name()}})) {}

  std::string make() {
    const std::string cpu = text(record_, "/machine/cpu_model");
    html_.paragraph(
        strings_("html.bench.lead", {{"model", model_line(record_, strings_)},
                                     {"cpu", cpu.empty() ? strings_("unknown_cpu") : cpu},
                                     {"time", readable_time(text(record_, "/time"))}}),
        "lead");
    for (const std::string& line : problem_lines(record_, strings_))
      html_.paragraph(line, "warning");
    if (has_counted_runs(record_)) {
      result();
      limits();
      latency("html.ttft", "/ttft_s", "/limit_ttft_s");
      latency("html.bench_e2e", "/e2e_s", nullptr);
    }
    load();
    add_cost_section(record_, strings_, html_);
    how();
    return html_.page();
  }

 private:
  std::string model_name() const { return text(record_, "/model/name"); }

  void result() {
    html_.section(strings_("html.result"));
    html_.paragraph(interval_line(record_, strings_), "note");
    const Table latency = latency_table(record_, strings_);
    const Table speed = speed_table(record_, strings_);
    html_.table(latency);
    html_.table(speed);
    html_.paragraph(strings_("html.terms"), "note");
    std::vector<std::pair<std::string, std::string>> terms;
    for (const Table* table : {&latency, &speed}) {
      for (const TableColumn& column : table->columns) {
        const auto meaning = strings_.fill("html.bench.term." + column.key, {});
        const bool is_new = std::none_of(terms.begin(), terms.end(), [&](const auto& term) {
          return term.first == column.title;
        });
        if (meaning && is_new) terms.emplace_back(column.title, *meaning);
      }
    }
    html_.terms(terms);
  }

  std::vector<Strip> task_strips(const char* path, const char* limit_path) const {
    std::vector<Strip> strips;
    for (const Json& task : list(record_, "/tasks")) {
      strips.push_back(record_strip(record_, text(task, "/task"), path, limit_path));
      strips.back().label = name_text(strings_, text(task, "/task"));
      strips.back().color = static_cast<int>(strips.size());
    }
    return strips;
  }

  // The speeds beside their limit, and the arithmetic of that limit.
  void limits() {
    StripChart chart = {
        "html.speed", "html.speed.limit", {strings_("html.axis.speed"), 1.0, 1, false}, "task"};
    chart.strips = task_strips("/decode_tok_s", "/limit_decode_tok_s");
    add_strips(html_, strings_, chart);
    html_.section(strings_("html.limits"));
    for (const std::string& sentence : limit_sentences()) html_.paragraph(sentence);
  }

  std::vector<std::string> limit_sentences() const {
    const auto bytes = number(record_, "/model/bytes_read_per_token");
    const Json& level = bytes ? ceiling_for(record_, *bytes) : record_;
    const auto gb_s = number(level, "/read_gb_s/best");
    const std::vector<double> speeds = run_values(record_, "", "/decode_tok_s", false);
    const std::vector<double> limits = run_values(record_, "", "/limit_decode_tok_s", false);
    if (!bytes || !gb_s || speeds.empty() || limits.empty())
      return {strings_("html.limits.unknown")};
    const double limit = median(limits);
    const double share = median(speeds) / limit;
    const std::map<std::string, std::string> values = {
        {"read_mb", fixed(*bytes / 1e6, 1)},
        {"gb_s", fixed(*gb_s, 1)},
        {"level", name_text(strings_, text(level, "/level"))},
        {"weights_tok_s", fixed(*gb_s * 1e9 / *bytes, 0)},
        {"limit", fixed(limit, decimals_for(limit))},
        {"speed", fixed(median(speeds), decimals_for(median(speeds)))},
        {"percent", fixed(100.0 * share, 0)},
        {"rest_percent", fixed(100.0 * (1.0 - share), 0)}};
    std::vector<std::string> sentences = {strings_("html.limits.arithmetic", values)};
    sentences.push_back(
        strings_(share >= kMostlyLimit ? "html.limits.reached" : "html.limits.far", values));
    return sentences;
  }

  void latency(const std::string& key, const char* path, const char* limit_path) {
    const std::vector<double> all = run_values(record_, "", path, false);
    if (all.empty()) return;
    StripChart chart = {key, limit_path != nullptr ? "html.ttft.limit" : "",
                        time_unit(*std::max_element(all.begin(), all.end())), "task"};
    chart.strips = task_strips(path, limit_path);
    add_strips(html_, strings_, chart);
  }

  void load() {
    const Json& levels = list(record_, "/loads");
    if (levels.empty()) return;
    html_.section(strings_("html.load"));
    html_.paragraph(strings_("html.load.note"), "note");
    html_.table(load_table(record_, strings_));
    load_latency(levels, "html.load_ttft", "/ttft_s");
    load_latency(levels, "html.load_e2e", "/e2e_s");
  }

  // As the user sees it: from when the request should have been sent.
  void load_latency(const Json& levels, const std::string& key, const char* path) {
    StripChart chart = {key, "", {}, "load"};
    double largest_s = 0.0;
    int color = 0;
    for (const Json& level : levels) {
      Strip strip;
      strip.label = load_name(level, strings_);
      strip.color = ++color;
      for (const Json& run : list(level, "/runs")) {
        const auto value = number(run, path);
        if (!value || part(run, "/error").is_string()) continue;
        strip.values.push_back(*value + number(run, "/late_s").value_or(0.0));
        largest_s = std::max(largest_s, strip.values.back());
      }
      chart.strips.push_back(std::move(strip));
    }
    chart.unit = time_unit(largest_s);
    add_strips(html_, strings_, chart);
  }

  void how() {
    html_.section(strings_("how"));
    const std::string end = strings_("sentence_end");
    html_.paragraph(machine_line(record_, strings_) + end);
    html_.paragraph(protocol_line(record_, strings_) + end);
    for (const std::string& line : figure_lines(record_, strings_)) html_.paragraph(line);
    html_.paragraph(strings_("html.bench.how"));
    html_.section(strings_("html.machine"));
    Facts facts = machine_facts(strings_, record_, record_, part(record_, "/model"));
    add_kernels(strings_, record_, "", facts);
    html_.terms(facts);
  }

  const Json& record_;
  const Strings& strings_;
  HtmlReport html_;
};

}  // namespace

std::string bench_html(const Json& record, const Strings& strings) {
  return BenchPage(record, strings).make();
}

}  // namespace quench
