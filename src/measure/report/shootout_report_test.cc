#include "measure/report/shootout_report.h"

#include <gtest/gtest.h>

#include "measure/report/html.h"

namespace quench {
namespace {

Json run(bool warmup, double ttft_s, double e2e_s, double decode_tok_s) {
  return {{"warmup", warmup},
          {"seed", 1},
          {"ttft_s", ttft_s},
          {"e2e_s", e2e_s},
          {"decode_tok_s", decode_tok_s}};
}

// A small shootout of two rows: every figure in it is different from every other.
Json sample(const std::string& model = "demo", const std::string& profile = "int4") {
  Json rows = Json::array();
  Json records = Json::array();
  Json evaluations = Json::array();
  for (int i = 0; i < 2; ++i) {
    const double k = i + 1;
    rows.push_back(
        {{"profile", i == 0 ? "reference" : profile},
         {"format", i == 0 ? "bf16" : "int4_g128"},
         {"bytes", i == 0 ? 10000000 : 2500000},
         {"decode_tok_s", 111.1 * k},
         {"ttft_s", 0.0123 * k},
         {"e2e_s", 1.57 * k},
         {"kld_mean", 0.0345 * i},
         {"ppl", 17.25 * k},
         {"top1_agreement", i == 0 ? 1.0 : 0.876},
         {"peak_bytes", 31400000 * k},
         {"make_s", 2.75 * k},
         {"statistics",
          {{"decode_tok_s",
            {{"count", 3}, {"low", 101.5 * k}, {"high", 121.5 * k}, {"coverage", 0.75}}}}}});
    records.push_back(
        {{"build", {{"isa", "ref"}}},
         {"settings", {{"device", "cpu"}, {"threads", 2}}},
         {"kernels", {"kernel-" + std::to_string(i)}},
         {"tasks",
          {{{"task", "chat"},
            {"runs",
             {run(true, 0.0991, 9.91, 91.1), run(false, 0.0121 * k, 1.53 * k, 101.5 * k),
              run(false, 0.0123 * k, 1.57 * k, 111.1 * k),
              run(false, 0.0127 * k, 1.61 * k, 121.5 * k)}}}}}});
    evaluations.push_back({{"text", "texts/eval"},
                           {"tokens", 4321},
                           {"scored", 4309},
                           {"context", 512},
                           {"stride", 256},
                           {"windows", "sliding"},
                           {"convention", "as an old file says it"},
                           {"max_tokens_per_domain", nullptr},
                           {"accuracy", nullptr},
                           {"noise_floor", {{"kld_max", 0.0}}},
                           {"domains",
                            {{{"domain", "english"},
                              {"scored", 4309},
                              {"ppl", 18.5 * k},
                              {"kld",
                               {{"mean", 0.0456 * i},
                                {"ci95", {0.0412 * i, 0.0498 * i}},
                                {"p99", 0.321 * i},
                                {"max", 0.654 * i}}},
                              {"top1_agreement", 0.765}}}}});
  }
  const Json choice = {{"profile", profile},
                       {"clauses", clauses_json({{"smallest",
                                                  {{"kld_budget", "0.1"},
                                                   {"size_mb", "2.5"},
                                                   {"saved_percent", "75.0"},
                                                   {"kld", "0.0345"}}}})},
                       {"reason", "the English reason."}};
  return {{"schema", "quench.shootout/1"},
          {"id", "0123456789abcdef"},
          {"time", "2026-01-31T12:34:56Z"},
          {"build", {{"commit", "c0ffee1"}}},
          {"machine", {{"cpu_model", "A CPU"}, {"cpus", 2}, {"memory_bytes", 8000000000}}},
          {"reference", {{"name", model}, {"family", "Qwen2ForCausalLM"}, {"sha256", "5ha"}}},
          {"settings",
           {{"lang", "en"},
            {"warmups", 1},
            {"runs", 3},
            {"first_seed", 1},
            {"sampling", {{"temperature", 0.7}}},
            {"interleaved", true}}},
          {"complete", true},
          {"rows", rows},
          {"recommendation",
           {{"storage", choice},
            {"speed", choice},
            {"balance", choice},
            {"rules", {{"kld_budget", 0.1}}}}},
          {"records", records},
          {"evaluations", evaluations}};
}

void expect_has(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part;
}

// The figures of the table, as every kind of report and every language shows them.
const std::vector<std::string> kFigures = {"10.00",
                                           "2.50",
                                           "75.0",
                                           "4.00",
                                           "111.1 (101.5-121.5)",
                                           "222.2 (203.0-243.0)",
                                           "0.012",
                                           "0.025",
                                           "1.57",
                                           "3.14",
                                           "0.0345",
                                           "17.25",
                                           "34.50",
                                           "87.6",
                                           "31.4",
                                           "62.8",
                                           "2.75",
                                           "5.50"};

// Void elements aside, every element is closed in the order it was opened; scripts and styles are
// not looked into.
void expect_balanced(const std::string& html) {
  std::vector<std::string> open;
  size_t at = 0;
  while ((at = html.find('<', at)) != std::string::npos) {
    const size_t end = html.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = html.substr(at + 1, end - at - 1);
    at = end + 1;
    const bool closing = tag[0] == '/';
    std::string name = tag.substr(closing ? 1 : 0);
    name = name.substr(0, name.find_first_of(" \n"));
    if (name == "!DOCTYPE" || name == "meta") continue;
    if (closing) {
      ASSERT_FALSE(open.empty()) << tag;
      ASSERT_EQ(open.back(), name);
      open.pop_back();
      continue;
    }
    open.push_back(name);
    if (name == "script" || name == "style") at = html.find("</" + name, at);
  }
  EXPECT_TRUE(open.empty());
}

TEST(ShootoutReport, HasEveryFigureInBothLanguages) {
  const Json json = sample();
  for (const std::string& language : Strings::languages()) {
    const Strings& strings = Strings::of(language);
    for (const std::string& report :
         {shootout_text(json, strings, false), shootout_markdown(json, strings),
          shootout_html(json, strings)}) {
      expect_has(report, kFigures);
      expect_has(report, {"int4", "A CPU", strings("recommendation"), strings("reference")});
      EXPECT_EQ(report.find("as an old file"), std::string::npos);
      EXPECT_EQ(report.find("the English reason"), std::string::npos);
    }
  }
}

TEST(ShootoutReport, TakesTheFilesOwnWordsWhereItHasNoOthers) {
  Json json = sample();
  for (Json& choice : json["recommendation"]) choice.erase("clauses");
  for (Json& evaluation : json["evaluations"]) evaluation.erase("windows");
  expect_has(shootout_text(json, Strings::of("zh"), false),
             {"the English reason.", "as an old file says it"});
}

TEST(ShootoutReport, ShowsAccuracyWhereItWasMeasured) {
  Json json = sample();
  const Strings& strings = Strings::of("en");
  EXPECT_EQ(shootout_text(json, strings, false).find("accuracy"), std::string::npos);
  json["evaluations"][1]["accuracy"] = {{"percent", 61.7}};
  expect_has(shootout_text(json, strings, false), {"accuracy %", "61.7"});
}

TEST(ShootoutHtml, HasEveryRunAndTheMachine) {
  for (const std::string& language : Strings::languages()) {
    const std::string html = shootout_html(sample(), Strings::of(language));
    expect_balanced(html);
    // Times are short: milliseconds. Counted runs, warm-ups, domains, kernels.
    expect_has(html, {"12.10", "12.30", "12.70", "24.20", "25.40", "99.10", "1.53", "3.22", "9.91",
                      "0.0456", "0.0412", "0.0498", "0.321", "0.654", "37.00", "kernel-1",
                      "c0ffee1", "0123456789abcdef", "8.0 GB"});
    // In the charts' data too.
    expect_has(html, {"\"values\":[101.5,111.1,121.5]", "\"x\":2.5,\"y\":0.0345,\"speed\":222.2"});
    expect_has(html, {language == "zh" ? "<html lang=\"zh-CN\">" : "<html lang=\"en\">"});
  }
}

TEST(ShootoutHtml, ShowsLimitsWhereTheyWereMeasured) {
  Json json = sample();
  const Strings& strings = Strings::of("en");
  EXPECT_EQ(shootout_html(json, strings).find("of limit"), std::string::npos);
  for (Json& record : json["records"]) {
    for (Json& measured : record["tasks"][0]["runs"]) {
      measured["limit_decode_tok_s"] = 444.4;
      measured["limit_ttft_s"] = 0.00615;
    }
  }
  // 222.2 of 444.4 tokens per second; 6.15 of 12.3 ms.
  expect_has(shootout_html(json, strings),
             {"of limit %", "444.4", "50.0", "\"limit\":444.4", "6.15"});
}

TEST(ShootoutHtml, LoadsNothing) {
  const std::string html = shootout_html(sample(), Strings::of("en"));
  for (const char* load : {"src=", "href=", "url(", "@import", "<link", "<img", "<iframe", "fetch(",
                           "XMLHttpRequest", "WebSocket"})
    EXPECT_EQ(html.find(load), std::string::npos) << load;
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
}

TEST(ShootoutHtml, NamesAreText) {
  const std::string hostile = "</script><script>alert(1)</script>{{style}}\"'&<!--\x01\xff";
  for (const std::string& language : Strings::languages()) {
    const Strings& strings = Strings::of(language);
    Json json = sample(hostile, hostile);
    json["machine"]["cpu_model"] = hostile;
    json["records"][0]["tasks"][0]["task"] = hostile;
    json["records"][1]["tasks"][0]["task"] = hostile;
    json["evaluations"][0]["domains"][0]["domain"] = hostile;
    json["evaluations"][1]["domains"][0]["domain"] = hostile;
    json["evaluations"][0]["text"] = hostile;
    json["recommendation"]["speed"] = {{"profile", hostile}, {"reason", hostile}};
    const std::string html = shootout_html(json, strings);
    EXPECT_EQ(html.find("<script>alert"), std::string::npos);
    EXPECT_EQ(html.find("\x01"), std::string::npos);
    EXPECT_EQ(html.find('\xff'), std::string::npos);
    EXPECT_NE(html.find("&lt;/script&gt;&lt;script&gt;alert(1)"), std::string::npos);
    // Only the page itself holds scripts: data, library, charts.
    size_t scripts = 0;
    for (size_t at = 0; (at = html.find("<script", at)) != std::string::npos; ++at) ++scripts;
    EXPECT_EQ(scripts, 3u);
    expect_balanced(html);
  }
}

TEST(ShootoutReport, UnknownIsADash) {
  const Json json = {{"schema", "quench.shootout/1"},
                     {"rows", {{{"profile", "a"}, {"bytes", 5}, {"ppl", "seventeen"}}}},
                     {"records", "none"},
                     {"recommendation", 7}};
  ASSERT_TRUE(validate_shootout(json, "x"));
  for (const std::string& language : Strings::languages()) {
    const Strings& strings = Strings::of(language);
    expect_has(shootout_text(json, strings, false), {" - "});
    expect_has(shootout_markdown(json, strings), {"| - |"});
    expect_balanced(shootout_html(json, strings));
  }
}

TEST(ShootoutReport, RefusesWhatHasNoRows) {
  for (const Json& json :
       {Json(), Json(3), Json{{"schema", "quench.record/1"}},
        Json{{"schema", "quench.shootout/1"}, {"rows", Json::array()}},
        Json{{"schema", "quench.shootout/1"}, {"rows", {{{"profile", "a"}, {"bytes", 0}}}}},
        Json{{"schema", "quench.shootout/1"}, {"rows", {{{"profile", 1}, {"bytes", 5}}}}},
        Json{{"schema", "quench.shootout/1"}, {"rows", {3}}}}) {
    const auto done = validate_shootout(json, "file.json");
    ASSERT_FALSE(done) << json.dump();
    EXPECT_TRUE(done.error().message.starts_with("file.json: ")) << done.error().message;
  }
}

TEST(Html, TextIsEscaped) {
  EXPECT_EQ(html_text("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(html_text("\xe4\xb8\xad\xff\t\x7f"), "\xe4\xb8\xad\xef\xbf\xbd  ");
}

}  // namespace
}  // namespace quench
