#include "measure/analyze/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/paths.h"
#include "base/random.h"
#include "measure/analyze/rank_sum.h"
#include "measure/records.h"

namespace quench {
namespace {

double normal(uint64_t seed, uint64_t index) {
  const double u = random_uniform(seed, 2 * index), v = random_uniform(seed, 2 * index + 1);
  return std::sqrt(-2.0 * std::log(1.0 - u)) * std::cos(2.0 * std::numbers::pi * v);
}

// Three tasks of `runs` counted runs; times are log-normal, lengths vary, `slower` multiplies
// times.
Json record(uint64_t seed, int runs, double slower = 1.0) {
  Json tasks = Json::array();
  uint64_t draw = 0;
  for (const char* name : {"chat", "article", "code"}) {
    Json list = Json::array();
    for (int i = 0; i <= runs; ++i) {
      const double tokens = 100.0 + std::round(30.0 * random_uniform(seed + 7, ++draw));
      const double ttft = 0.05 * slower * std::exp(0.04 * normal(seed, ++draw));
      const double step = 0.01 * slower * std::exp(0.02 * normal(seed, ++draw));
      list.push_back({{"warmup", i == 0},
                      {"generated_tokens", tokens},
                      {"prompt_tokens", 34},
                      {"finish_reason", "stop"},
                      {"ttft_s", i == 0 ? 9.0 : ttft},
                      {"e2e_s", ttft + (tokens - 1.0) * step},
                      {"decode_tok_s", 1.0 / step},
                      {"token_s", {ttft, ttft + step}},
                      {"engine_token_s", {ttft - 0.001, ttft + step - 0.001}}});
    }
    tasks.push_back({{"task", name}, {"lang", "en"}, {"runs", list}});
  }
  return {{"schema", "quench.record/1"},
          {"machine", {{"cpu_model", "Test CPU"}}},
          {"model",
           {{"name", "none"}, {"format", "int4"}, {"bytes", 1e8}, {"bytes_read_per_token", 1e8}}},
          {"ceilings",
           {{"read", Json::array({{{"level", "memory"},
                                   {"up_to_bytes", 1e12},
                                   {"read_gb_s", {{"best", 20.0}, {"median", 19.0}}}}})},
            {"bf16_gflop_s", {{"best", 500.0}, {"median", 490.0}}}}},
          {"tasks", tasks}};
}

const CompareRow& find_row(const Comparison& c, const std::string& task,
                           const std::string& metric) {
  for (const CompareRow& row : c.rows) {
    if (row.task == task && row.metric == metric) return row;
  }
  ADD_FAILURE() << task << " " << metric;
  return c.rows.front();
}

TEST(RankTest, ExactProbabilities) {
  // Three against three, fully apart: 2 of 20 orders.
  const RankTest apart = rank_test({{{1, 2, 3}, {4, 5, 6}}}, 0.01);
  EXPECT_NEAR(apart.p, 0.1, 1e-12);
  EXPECT_NEAR(apart.least_p, 0.1, 1e-12);
  // Three such strata: 2 of 8000.
  const Stratum s = {{1, 2, 3}, {4, 5, 6}};
  EXPECT_NEAR(rank_test({s, s, s}, 0.01).p, 2.0 / 8000.0, 1e-12);
  EXPECT_NEAR(rank_test({{{1, 4}, {2, 3}}}, 0.01).p, 1.0, 1e-12);
  EXPECT_EQ(runs_needed(0.1, 1), 3);
  EXPECT_EQ(runs_needed(0.01, 1), 5);
  EXPECT_EQ(runs_needed(0.001, 3), 3);
}

TEST(Compare, NoDifferenceIsCalledWhereThereIsNone) {
  int called = 0;
  for (uint64_t repeat = 0; repeat < 200; ++repeat) {
    const Comparison c =
        compare_records(record(1000 + 2 * repeat, 10), record(1001 + 2 * repeat, 10)).value();
    bool any = false;
    for (const CompareRow& row : c.rows) any |= row.verdict != "cannot tell";
    called += any ? 1 : 0;
  }
  EXPECT_LE(called, 5);
}

TEST(Compare, FivePercentAreFound) {
  int found = 0;
  for (uint64_t repeat = 0; repeat < 20; ++repeat) {
    const Comparison c =
        compare_records(record(2 * repeat, 10), record(2 * repeat + 1, 10, 1.05)).value();
    const CompareRow& row = find_row(c, "all", "decode_tok_s");
    found += row.verdict == "slower" ? 1 : 0;
    EXPECT_NE(row.verdict, "faster");
    EXPECT_NEAR(row.speedup, 1.0 / 1.05, 0.02);
    EXPECT_LE(row.low, row.speedup);
    EXPECT_GE(row.high, row.speedup);
  }
  EXPECT_GE(found, 19);
}

TEST(Compare, FewRunsCannotTell) {
  const Comparison c = compare_records(record(1, 1), record(2, 1, 3.0)).value();
  for (const CompareRow& row : c.rows) EXPECT_EQ(row.verdict, "cannot tell");
  EXPECT_TRUE(find_row(c, "chat/en", "ttft_s").has_too_few_runs);
  EXPECT_GT(c.runs_needed, 1);
}

TEST(Compare, CausesMultiplyToTheRatio) {
  Json fast = record(2, 10, 0.25);
  fast["model"]["bytes_read_per_token"] = 5e7;
  fast["ceilings"]["read"][0]["read_gb_s"]["best"] = 40.0;
  const Comparison c = compare_records(record(1, 10), fast).value();
  ASSERT_EQ(c.breakdowns.size(), 2u);
  const Breakdown& decode = c.breakdowns.front();
  double product = 1.0;
  for (const Cause& cause : decode.causes) product *= cause.factor;
  EXPECT_NEAR(product, decode.speedup, 1e-9);
  EXPECT_NEAR(decode.causes[0].factor, 2.0, 1e-9);  // weights
  EXPECT_NEAR(decode.causes[1].factor, 2.0, 1e-9);  // bandwidth
  EXPECT_EQ(decode.causes[2].name, "host");
  EXPECT_NEAR(decode.causes.back().factor, 1.0, 0.05);
}

TEST(Compare, CausesAreOfTheTasksThatBothHave) {
  Json few = record(2, 5);
  few["tasks"].erase(0);
  few["tasks"].erase(0);
  Json many = record(1, 5);
  for (Json& run : many["tasks"][0]["runs"]) run["decode_tok_s"] = 1e3;
  for (Json& run : many["tasks"][1]["runs"]) run["decode_tok_s"] = 1e3;
  const Comparison c = *compare_records(many, few, 0.01);
  EXPECT_NEAR(c.breakdowns.front().speedup, find_row(c, "code/en", "decode_tok_s").speedup, 0.05);
}

TEST(Compare, ImpossibleRecordsAreSaid) {
  Json fast = record(1, 10, 0.01);  // 10,000 tok/s of 1e8 bytes at 20 GB/s
  const Comparison c = compare_records(record(2, 10), fast).value();
  ASSERT_FALSE(c.remarks.empty());
  EXPECT_NE(compare_sentence(Strings::of("en"), c.remarks.front()).find("impossible"),
            std::string::npos);
  EXPECT_NE(comparison_text(c, Strings::of("zh")).find("不可能"), std::string::npos);
}

TEST(Compare, GridsAreComparedRowByRow) {
  auto grid = [](double factor) {
    auto row = [&](const char* test, int64_t tokens, double speed) {
      Json speeds = Json::array();
      for (int i = 0; i < 8; ++i) speeds.push_back(factor * (speed + 0.001 * speed * i));
      return Json({{"test", test},
                   {"tokens", tokens},
                   {"depth", 0},
                   {"batch", 2},
                   {"tok_s", speeds},
                   {"limit_tok_s", 10.0 * speed},
                   {"read_bytes_per_token", 1e6}});
    };
    return Json({{"schema", "quench.bench/1"},
                 {"model", "tiny"},
                 {"format", "int4"},
                 {"isa", "ref"},
                 {"threads", 1},
                 {"kernels", Json::array()},
                 {"ceilings", {{"cpu_model", "Test CPU"}}},
                 {"rows", {row("prefill", 50, 1000.0), row("decode", 64, 40.0)}}});
  };
  const auto a = to_record(grid(1.0), "a.json");
  ASSERT_TRUE(a) << a.error().message;
  const Comparison c = compare_records(*a, to_record(grid(2.0), "b.json").value()).value();
  ASSERT_EQ(c.rows.size(), 2u);
  const CompareRow& prefill = find_row(c, "prefill 50 @0 x2", "ttft_s");
  EXPECT_NEAR(*prefill.a, 0.1, 0.001);  // 50 tokens of 2 sequences at 1000 tok/s
  EXPECT_NEAR(prefill.speedup, 2.0, 1e-6);
  EXPECT_EQ(prefill.verdict, "faster");
  const CompareRow& decode = find_row(c, "decode 64 @0 x2", "decode_tok_s");
  EXPECT_NEAR(decode.speedup, 2.0, 1e-6);
  EXPECT_NE(c.name_a.find("tiny int4 on Test CPU"), std::string::npos) << c.name_a;
  Json broken = grid(1.0);
  broken["rows"][0].erase("batch");
  EXPECT_NE(to_record(broken, "x.json").error().message.find("\"batch\" is missing"),
            std::string::npos);
}

TEST(Compare, ThePublishedCase) {
  auto typed = [](const char* name) {
    const std::string path = data_path(std::string("hardware/published/") + name).value();
    return to_record(read_json_file(path).value(), path).value();
  };
  const Json card = typed("case_rtx3060.json"), rented = typed("case_a100.json");
  const auto valid = validate_measurement(card);
  EXPECT_TRUE(valid) << valid.error().message;
  const Comparison c = compare_records(card, rented).value();
  EXPECT_NEAR(find_row(c, "chat", "ttft_s").speedup, 4.0, 0.005);
  EXPECT_NEAR(find_row(c, "chat", "e2e_s").speedup, 3.75, 0.005);
  EXPECT_NEAR(find_row(c, "article", "e2e_s").speedup, 4.51, 0.005);
  EXPECT_NEAR(find_row(c, "code", "e2e_s").speedup, 4.556, 0.005);
  for (const CompareRow& row : c.rows) EXPECT_EQ(row.verdict, "cannot tell");  // single runs
  ASSERT_TRUE(c.cost);
  EXPECT_NEAR(*c.cost->break_even_rented_hours, 2500.0 / 15.0, 1e-9);
  ASSERT_EQ(c.cost->break_even_runs.size(), 3u);
  // An article rented is 15 x 3.5 / 3600 CNY, bought 170 W x 15.8 s at 0.54 CNY per kWh.
  EXPECT_NEAR(*c.cost->break_even_runs[1], 2500.0 / (0.014583 - 0.0004035), 50.0);
  std::string remarks;
  for (const Clause& remark : c.remarks)
    remarks += compare_sentence(Strings::of("en"), remark) + "\n";
  EXPECT_NE(remarks.find("15.2 GB of bf16 weights do not fit the 12 GB"), std::string::npos)
      << remarks;
  EXPECT_NE(remarks.find("20 minutes at 15 CNY an hour are 5 CNY, not 20"), std::string::npos)
      << remarks;
  EXPECT_NE(remarks.find("124 times too much"), std::string::npos) << remarks;
  const std::string chinese = comparison_text(c, Strings::of("zh"));
  for (const char* words : {"放不进", "是 5 CNY，不是 20", "高了 124 倍", "小时后回本", "无法判断"})
    EXPECT_NE(chinese.find(words), std::string::npos) << words << "\n" << chinese;
  const std::string markdown = comparison_markdown(c, Strings::of("en"));
  for (const char* words : {"- A: ", "| --- |", "not 20", "- article"})
    EXPECT_NE(markdown.find(words), std::string::npos) << words << "\n" << markdown;
  const Json json = comparison_json(c);
  EXPECT_EQ(json.at("remarks").size(), json.at("remark_clauses").size());
  EXPECT_EQ(compare_sentence(Strings::of("en"), json.at("remark_clauses").at(0), ""),
            json.at("remarks").at(0));
  EXPECT_EQ(compare_sentence(Strings::of("zh"), {{"key", "of another version"}}, "text"), "text");
}

TEST(Compare, RefusesWhatIsNoRecord) {
  EXPECT_FALSE(to_record(Json::array(), "x.json"));
  EXPECT_FALSE(to_record({{"schema", "quench.typed/1"}}, "x.json"));
  const Json typed = {{"schema", "quench.typed/1"}, {"tasks", {{{"task", "chat"}}}}};
  EXPECT_NE(to_record(typed, "x.json").error().message.find("e2e_s"), std::string::npos);
  Json other = record(1, 3);
  for (Json& task : other["tasks"]) task["task"] = "other";
  EXPECT_NE(compare_records(record(1, 3), other).error().message.find("no task in common"),
            std::string::npos);
}

TEST(Compare, JsonHasItsFields) {
  const Json json = comparison_json(*compare_records(record(1, 3), record(2, 3)));
  EXPECT_EQ(json.at("schema"), "quench.compare/1");
  for (const char* key : {"a", "b", "alpha", "rows", "runs_needed", "breakdown", "cost", "remarks"})
    EXPECT_TRUE(json.contains(key)) << key;
  for (const char* key : {"task", "metric", "a", "b", "speedup", "low", "high", "p", "verdict"})
    EXPECT_TRUE(json.at("rows").at(0).contains(key)) << key;
}

}  // namespace
}  // namespace quench
