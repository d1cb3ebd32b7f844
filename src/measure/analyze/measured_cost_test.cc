#include "measure/analyze/measured_cost.h"

#include <gtest/gtest.h>

#include "measure/report/bench_report.h"
#include "measure/report/cost_report.h"

namespace quench {
namespace {

Json task(double tokens, double low_s, double median_s, double high_s) {
  Json summary = {{"generated_tokens", {{"median", tokens}}},
                  {"e2e_s", {{"low", low_s}, {"median", median_s}, {"high", high_s}}}};
  Json runs = Json::array({{{"warmup", false}, {"e2e_s", median_s}}});
  return {{"task", "chat"}, {"summary", std::move(summary)}, {"runs", std::move(runs)}};
}

// 200 tokens in 4 s at the median, in 3.2 to 5 s.
Json record() {
  return {{"schema", "quench.record/1"},
          {"id", "0123"},
          {"tasks", Json::array({task(50.0, 0.8, 1.0, 1.0), task(150.0, 2.4, 3.0, 4.0)})},
          {"loads", Json::array({{{"concurrency", 4}, {"output_tok_s", 100.0}}})},
          {"energy", {{"counted_runs_j", 400.0}}}};
}

TEST(MeasuredCost, AnswersOfAllTasksTogetherHaveASpeed) {
  const MeasuredCost cost = *measured_cost(record());
  ASSERT_EQ(cost.rows.size(), 2U);
  EXPECT_DOUBLE_EQ(cost.rows[0].tok_s.low, 40.0);
  EXPECT_DOUBLE_EQ(cost.rows[0].tok_s.high, 62.5);
  EXPECT_DOUBLE_EQ(cost.rows[0].hours_per_million(), 1e6 / 50.0 / 3600.0);
  EXPECT_EQ(cost.rows[1].concurrency, 4.0);
  EXPECT_FALSE(cost.rows[0].own || cost.rows[0].rent || cost.rows[0].kwh);
}

TEST(MeasuredCost, RentAndPurchaseAreCountedPerMillionTokens) {
  CostWishes wishes;
  wishes.rent = "1.80USD";
  wishes.buy = "900USD";
  wishes.electricity = "0.20USD";
  Json json = record();
  ASSERT_TRUE(add_cost(wishes, json));
  const MeasuredCost cost = *measured_cost(json);
  EXPECT_TRUE(cost.watt_is_measured);
  EXPECT_NEAR(cost.prices.own->busy_w, 100.0, 1e-9);  // 400 J in 4 s
  // The rule of the field: $/h / (tok/s x 3600) x 1e6.
  EXPECT_NEAR(cost.rows[1].rent->low, 1.8 / (100.0 * 3600.0) * 1e6, 1e-9);
  EXPECT_NEAR(*cost.rows[1].kwh, 100.0 / 1e3 / (100.0 * 3600.0) * 1e6, 1e-9);
  ASSERT_TRUE(cost.break_even && cost.break_even->exists);
  // An hour of work on the own machine saves the rent less its power, idle hours included.
  const double power = 0.1 * (1.0 + 0.1 * 0.7 / 0.3) * 0.20;
  EXPECT_NEAR(cost.break_even->own_hours_middle, 900.0 / (1.8 - power), 1e-3);
  EXPECT_NEAR(json["cost"]["break_even_hours"]["low"].get<double>(), 900.0 / (1.8 - power), 1e-3);
  EXPECT_EQ(json["cost"]["rows"].size(), 2U);
  EXPECT_EQ(json["cost"]["purchase"], "900USD");  // as quench compare reads it
  EXPECT_NE(json["cost"]["inputs"].dump().find("100 W busy (measured)"), std::string::npos);
  EXPECT_NE(json["id"], "0123");
}

TEST(MeasuredCost, EveryVersionOfAShootoutHasARow) {
  const Json rows = Json::array({{{"profile", "reference"}}, {{"profile", "fast"}}});
  Json json = {{"schema", "quench.shootout/1"},
               {"id", "4567"},
               {"rows", rows},
               {"records", Json::array({record(), record()})}};
  CostWishes wishes;
  wishes.month = "300CNY";
  ASSERT_TRUE(add_cost(wishes, json));
  const MeasuredCost cost = *measured_cost(json);
  ASSERT_EQ(cost.rows.size(), 4U);
  EXPECT_EQ(cost.rows[2].profile, "fast");
  EXPECT_EQ(json["records"][1]["cost"]["rent_per_month"], "300CNY");
  for (const std::string& language : Strings::languages()) {
    const Strings& strings = Strings::of(language);
    const std::string text = cost_text(json, strings, false);
    EXPECT_NE(text.find("300 CNY"), std::string::npos) << text;
    EXPECT_NE(cost_markdown(json, strings).find("| fast |"), std::string::npos);
  }
}

TEST(MeasuredCost, WithoutPricesAPageSaysHowToNameThem) {
  const Strings& strings = Strings::of("en");
  EXPECT_EQ(cost_text(record(), strings, false), "");
  HtmlReport html(strings, "title");
  add_cost_section(record(), strings, html);
  const std::string page = html.page();
  EXPECT_NE(page.find("5.56"), std::string::npos);  // hours for a million tokens
  EXPECT_NE(page.find("--rent 0.50USD"), std::string::npos);
}

TEST(MeasuredCost, WrongPricesAreRefusedBeforeTheWork) {
  CostWishes wishes;
  wishes.rent = "cheap";
  EXPECT_EQ(check_cost_wishes(wishes).error().code, ErrorCode::kInvalidArgument);
  wishes.rent = "1USD";
  wishes.buy = "900CNY";
  EXPECT_NE(check_cost_wishes(wishes).error().message.find("--exchange-rate"), std::string::npos);
  wishes.rates = {"USD=7.1CNY"};
  EXPECT_TRUE(check_cost_wishes(wishes));
}

TEST(MeasuredCost, AMalformedCostOfAFileIsRefused) {
  Json json = record();
  json["cost"] = {{"rent_per_hour", 15}};
  EXPECT_EQ(measured_cost(json).error().code, ErrorCode::kInvalidFile);
  EXPECT_EQ(cost_text(json, Strings::of("en"), false), "");
}

}  // namespace
}  // namespace quench
