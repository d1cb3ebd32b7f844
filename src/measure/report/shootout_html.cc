// The shootout as a page: what to take, the comparison, the trade-off, every run, the loss, the
// machine.
#include <algorithm>

#include "measure/report/cost_report.h"
#include "measure/report/html.h"
#include "measure/report/lookup.h"
#include "measure/report/page_parts.h"
#include "measure/report/shootout_report.h"

namespace quench {
namespace {

class Page {
 public:
  Page(const Json& shootout, const Strings& strings)
      : json_(shootout),
        rows_(shootout["rows"]),
        strings_(strings),
        html_(strings, strings("title", {{"model", model_name()}})) {}

  std::string make() {
    const std::string cpu = text(json_, "/machine/cpu_model");
    html_.paragraph(strings_("html.lead", {{"model", model_name()},
                                           {"count", std::to_string(rows_.size() - 1)},
                                           {"cpu", cpu.empty() ? strings_("unknown_cpu") : cpu},
                                           {"time", readable_time(text(json_, "/time"))}}),
                    "lead");
    if (part(json_, "/complete") == Json(false)) html_.paragraph(strings_("incomplete"), "warning");
    recommendation();
    comparison();
    tradeoff();
    speed();
    latency("html.ttft", "/ttft_s", "/limit_ttft_s");
    latency("html.e2e", "/e2e_s", nullptr);
    loss();
    add_cost_section(json_, strings_, html_);
    html_.section(strings_("how"));
    for (const std::string& sentence : measured_how(json_, strings_)) html_.paragraph(sentence);
    machine();
    return html_.page();
  }

 private:
  std::string model_name() const { return text(json_, "/reference/name"); }
  std::string name(size_t row) const {
    return profile_text(strings_, text(rows_[row], "/profile"));
  }
  const Json& record(size_t row) const {
    static const Json unknown;
    const Json& records = list(json_, "/records");
    return row < records.size() ? records[row] : unknown;
  }
  std::string budget() const {
    const auto budget = number(json_, "/recommendation/rules/kld_budget");
    return budget ? fmt::format("{}", *budget) : "";
  }

  // What a version is and what it costs, one sentence each.
  std::vector<std::string> card_lines(size_t i) const {
    const Json& row = rows_[i];
    const double bytes = *number(row, "/bytes");
    const double reference_bytes = *number(rows_[0], "/bytes");
    std::vector<std::string> lines;
    const std::map<std::string, std::string> size = {
        {"size_mb", fixed(bytes / 1e6, 2)},
        {"reference_mb", fixed(reference_bytes / 1e6, 2)},
        {"saved_percent", fixed(100.0 * (1.0 - bytes / reference_bytes), 1)},
        {"ratio", fixed(reference_bytes / bytes, 2)}};
    lines.push_back(strings_(i == 0 ? "html.card.size_reference" : "html.card.size", size));
    if (const auto speed = number(row, "/decode_tok_s")) {
      const auto reference = number(rows_[0], "/decode_tok_s");
      const bool compares = i > 0 && reference && *reference > 0.0;
      lines.push_back(strings_(
          compares ? "html.card.speed" : "html.card.speed_alone",
          {{"speed", fixed(*speed, 1)}, {"times", compares ? fixed(*speed / *reference, 2) : ""}}));
    }
    const auto kld = number(row, "/kld_mean");
    const auto top = number(row, "/top1_agreement");
    if (i == 0) {
      lines.push_back(strings_("html.card.loss_none"));
    } else if (kld && top) {
      lines.push_back(strings_("html.card.loss",
                               {{"kld", fixed(*kld, 4)}, {"top_percent", fixed(100.0 * *top, 1)}}));
    }
    const auto accuracy = number(row, "/accuracy");
    const auto reference_accuracy = number(rows_[0], "/accuracy");
    if (i > 0 && accuracy && reference_accuracy) {
      lines.push_back(strings_(
          "html.card.accuracy",
          {{"accuracy", fixed(100.0 * *accuracy, 1)},
           {"error", fixed(100.0 * number(row, "/accuracy_standard_error").value_or(0.0), 1)},
           {"questions", fixed(number(row, "/accuracy_questions").value_or(0.0), 0)},
           {"reference_accuracy", fixed(100.0 * *reference_accuracy, 1)}}));
    }
    return lines;
  }

  // One card for each version that is recommended, with every need that it is recommended for.
  void recommendation() {
    html_.section(strings_("recommendation"));
    html_.paragraph(strings_("html.recommendation.note", {{"kld_budget", budget()}}), "note");
    std::vector<HtmlCard> cards;
    std::map<std::string, size_t> card_of;  // by name
    for (const char* need : {"storage", "speed", "balance"}) {
      const std::string profile =
          text(json_, fmt::format("/recommendation/{}/profile", need).c_str());
      const auto [found, is_new] = card_of.emplace(profile, cards.size());
      if (is_new) cards.push_back(card(profile));
      HtmlCard& card = cards[found->second];
      const std::string wants = strings_(fmt::format("html.need.{}", need));
      card.heading += (card.heading.empty() ? "" : " \u00b7 ") + wants;
      card.reasons.push_back({wants, reason_text(json_, need, strings_)});
    }
    for (HtmlCard& card : cards) {
      if (card.reasons.size() == 1) card.reasons[0].first = strings_("html.why");
    }
    html_.cards(cards);
  }

  HtmlCard card(const std::string& profile) const {
    HtmlCard card;
    card.name = strings_("none");
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (text(rows_[i], "/profile") != profile) continue;
      card.name = name(i);
      card.color = static_cast<int>(i);
      card.lines = card_lines(i);
    }
    return card;
  }

  void comparison() {
    html_.section(strings_("html.comparison"));
    const Json& statistics = part(rows_[0], "/statistics/decode_tok_s");
    const auto coverage = number(statistics, "/coverage");
    html_.paragraph(
        coverage && number(statistics, "/count").value_or(0) > 1
            ? strings_("html.comparison.note", {{"coverage", fixed(100.0 * *coverage, 1)}})
            : strings_("html.comparison.note_no_interval"),
        "note");
    const Table table = shootout_table(json_, strings_);
    html_.table(table);
    std::vector<std::pair<std::string, std::string>> terms;
    for (const TableColumn& column : table.columns)
      terms.emplace_back(column.title, strings_("html.term." + column.key));
    html_.paragraph(strings_("html.terms"), "note");
    html_.terms(terms);
  }

  void tradeoff() {
    Json points = Json::array();
    for (size_t i = 0; i < rows_.size(); ++i) {
      const auto kld = number(rows_[i], "/kld_mean");
      if (!kld) continue;
      const double size_mb = *number(rows_[i], "/bytes") / 1e6;
      const auto speed = number(rows_[i], "/decode_tok_s");
      const std::string speed_text = speed ? fixed(*speed, 1) + " tok/s" : "";
      points.push_back({{"label", name(i)},
                        {"color", i},
                        {"x", size_mb},
                        {"y", *kld},
                        {"speed", speed ? Json(*speed) : Json()},
                        {"speed_text", speed_text},
                        {"text", fmt::format("{}: {:.2f} MB, {:.4f} nats, {}", name(i), size_mb,
                                             *kld, speed_text)}});
    }
    if (points.empty()) return;
    const auto limit = number(json_, "/recommendation/rules/kld_budget");
    html_.section(strings_("html.tradeoff"));
    html_.paragraph(limit ? strings_("html.tradeoff.note", {{"kld_budget", budget()}})
                          : strings_("html.tradeoff.note_no_budget"),
                    "note");
    const Json panel = {{"points", points},
                        {"x_title", strings_("html.axis.size")},
                        {"y_title", strings_("html.axis.loss")},
                        {"budget", limit ? Json(*limit) : Json()},
                        {"budget_text", strings_("html.budget", {{"kld_budget", budget()}})}};
    Table numbers = shootout_table(json_, strings_);
    keep_columns(numbers, {"profile", "bytes", "saved_fraction", "kld_mean", "decode_tok_s"});
    html_.figure({{"kind", "plane"}, {"panels", Json::array({panel})}}, numbers,
                 strings_("html.tradeoff"));
  }

  static void keep_columns(Table& table, const std::vector<std::string>& keys) {
    Table kept;
    kept.rows.resize(table.rows.size());
    for (size_t c = 0; c < table.columns.size(); ++c) {
      if (std::find(keys.begin(), keys.end(), table.columns[c].key) == keys.end()) continue;
      kept.columns.push_back(table.columns[c]);
      for (size_t r = 0; r < table.rows.size(); ++r) kept.rows[r].push_back(table.rows[r][c]);
    }
    table = std::move(kept);
  }

  void speed() {
    StripChart chart = {
        "html.speed", "html.speed.limit", {strings_("html.axis.speed"), 1.0, 1, false}};
    for (size_t i = 0; i < rows_.size(); ++i)
      chart.strips.push_back(strip(i, "", "/decode_tok_s", "/limit_decode_tok_s"));
    add_strips(html_, strings_, chart);
  }

  Strip strip(size_t i, const std::string& task, const char* path, const char* limit_path) const {
    Strip result = record_strip(record(i), task, path, limit_path);
    result.label = name(i);
    result.color = static_cast<int>(i);
    if (!task.empty()) result.panel = name_text(strings_, task);
    return result;
  }

  void latency(const std::string& key, const char* path, const char* limit_path) {
    double largest_s = 0.0;
    for (size_t i = 0; i < rows_.size(); ++i) {
      for (const double value : run_values(record(i), "", path, false))
        largest_s = std::max(largest_s, value);
    }
    StripChart chart = {key, "", time_unit(largest_s)};
    for (const Json& task : list(record(0), "/tasks")) {
      for (size_t i = 0; i < rows_.size(); ++i)
        chart.strips.push_back(strip(i, text(task, "/task"), path, limit_path));
    }
    add_strips(html_, strings_, chart);
  }

  void loss() {
    const Json& evaluations = list(json_, "/evaluations");
    std::vector<std::string> domains;
    if (!evaluations.empty()) {
      for (const Json& scores : list(evaluations[0], "/domains"))
        domains.push_back(text(scores, "/domain"));
    }
    Json panels = Json::array();
    for (const std::string& domain : domains) {
      Json panel = {{"title", name_text(strings_, domain)}, {"rows", Json::array()}};
      for (size_t i = 1; i < std::min(rows_.size(), evaluations.size()); ++i) {
        for (const Json& scores : list(evaluations[i], "/domains")) {
          const auto mean = number(scores, "/kld/mean");
          if (text(scores, "/domain") != domain || !mean) continue;
          panel["rows"].push_back({{"label", name(i)},
                                   {"color", i},
                                   {"values", Json::array({*mean})},
                                   {"shown", Json::array({fixed(*mean, 4)})},
                                   {"mid", nullptr},
                                   {"low", part(scores, "/kld/ci95/0")},
                                   {"high", part(scores, "/kld/ci95/1")}});
        }
      }
      if (!panel["rows"].empty()) panels.push_back(std::move(panel));
    }
    if (panels.empty()) return;
    html_.section(strings_("loss_by_domain"));
    html_.paragraph(strings_("html.domain.note"), "note");
    html_.figure({{"kind", "strips"}, {"unit", "nats"}, {"panels", panels}},
                 domain_table(json_, strings_), strings_("loss_by_domain"));
  }

  void machine() {
    html_.section(strings_("html.machine"));
    Facts facts = machine_facts(strings_, json_, record(0), part(json_, "/reference"));
    for (size_t i = 0; i < rows_.size(); ++i) add_kernels(strings_, record(i), name(i), facts);
    html_.terms(facts);
  }

  const Json& json_;
  const Json& rows_;
  const Strings& strings_;
  HtmlReport html_;
};

}  // namespace

std::string shootout_html(const Json& shootout, const Strings& strings) {
  return Page(shootout, strings).make();
}

}  // namespace quench
