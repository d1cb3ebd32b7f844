#include "measure/choose_format.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

MeasuredFormat measured(const std::string& format, int64_t bytes, double request_s,
                        double loss = 0.0) {
  MeasuredFormat result;
  result.format = format;
  result.bytes = bytes;
  for (int i = 0; i < 9; ++i) result.request_s.push_back(request_s * (1.0 + 0.001 * i));
  result.rounded_kld = loss;
  return result;
}

std::vector<std::string> names(const std::vector<MeasuredFormat>& formats,
                               const std::vector<size_t>& order) {
  std::vector<std::string> result;
  for (const size_t i : order) result.push_back(formats[i].format);
  return result;
}

using Names = std::vector<std::string>;

// Where reading limits, four bits are the quickest; where unpacking does, eight may be.
TEST(ChooseFormat, BySpeedTheQuickestIsFirst) {
  const std::vector<MeasuredFormat> by_memory = {
      measured("int4", 40, 1.0), measured("int5", 50, 1.2), measured("int8", 80, 1.9)};
  EXPECT_EQ(names(by_memory, order_by_speed(by_memory)), (Names{"int4", "int5", "int8"}));
  const std::vector<MeasuredFormat> by_unpacking = {
      measured("int4", 40, 1.5), measured("int5", 50, 1.7), measured("int8", 80, 1.2)};
  EXPECT_EQ(names(by_unpacking, order_by_speed(by_unpacking)), (Names{"int8", "int4", "int5"}));
}

TEST(ChooseFormat, OfWhatCannotBeToldApartTheSmallestIsFirst) {
  std::vector<MeasuredFormat> formats = {measured("int4", 40, 1.003), measured("int5", 50, 1.5),
                                         measured("int8", 80, 1.0)};
  EXPECT_EQ(names(formats, order_by_speed(formats)), (Names{"int4", "int8", "int5"}));
  // Two runs bound a median by both of them.
  for (MeasuredFormat& format : formats) format.request_s = {0.5, 2.0};
  EXPECT_EQ(names(formats, order_by_speed(formats)), (Names{"int4", "int5", "int8"}));
}

TEST(ChooseFormat, TheKneeIsWhereLossStopsFalling) {
  const std::vector<MeasuredFormat> early = {
      measured("int3", 30, 1.0, 0.100), measured("int4", 40, 1.1, 0.016),
      measured("int5", 50, 1.2, 0.010), measured("int8", 80, 1.9, 0.0)};
  EXPECT_EQ(order_by_knee(early).front(), 1u);
  const std::vector<MeasuredFormat> late = {
      measured("int3", 30, 1.0, 0.100), measured("int4", 40, 1.1, 0.090),
      measured("int5", 50, 1.2, 0.010), measured("int8", 80, 1.9, 0.0)};
  EXPECT_EQ(order_by_knee(late).front(), 2u);
  // Bits that also cost time are dearer than their bytes alone.
  std::vector<MeasuredFormat> slow = late;
  slow[2].request_s = std::vector<double>(9, 30.0);
  EXPECT_NE(order_by_knee(slow).front(), 2u);
}

TEST(ChooseFormat, OverTheBudgetBitsGoUp) {
  FormatChoice choice;
  choice.formats = {measured("int4", 40, 1.5), measured("int5", 50, 1.7),
                    measured("int8", 80, 1.2)};
  choice.order = {2, 0, 1};
  EXPECT_EQ(choice.next(std::nullopt), 2u);
  EXPECT_EQ(choice.next(2), std::nullopt);
  choice.order = {0, 2, 1};
  EXPECT_EQ(choice.next(std::nullopt), 0u);
  EXPECT_EQ(choice.next(0), 2u);
  EXPECT_EQ(choice.next(1), 2u);
}

TEST(ChooseFormat, MeasurementsAreKeptForAResumedJob) {
  FormatChoice choice;
  choice.rule = {ChoiceRule::By::kKnee, {"int4", "int8"}};
  choice.formats = {measured("int4", 40, 1.5, 0.02), measured("int8", 80, 1.9, 0.001)};
  choice.formats[0].kld.emplace().mean = 0.015;
  choice.order = order_by_knee(choice.formats);
  choice.chosen = "int8";
  Recipe recipe;
  recipe.kld_budget = 0.01;
  const Json json = choice_json(choice);
  const auto kept = kept_measurements(json, recipe, choice.rule);
  ASSERT_TRUE(kept);
  EXPECT_EQ(kept->order, choice.order);
  EXPECT_EQ(kept->formats[1].request_s, choice.formats[1].request_s);
  EXPECT_EQ(kept->formats[0].kld->mean, 0.015);
  EXPECT_EQ(kept->kld_budget, 0.01);
  // Of a recipe that has changed since, or of an older program.
  EXPECT_FALSE(kept_measurements(json, recipe, {ChoiceRule::By::kSpeed, {"int4", "int8"}}));
  EXPECT_FALSE(kept_measurements(json, recipe, {ChoiceRule::By::kKnee, {"int4", "int5"}}));
  Json older = json;
  older["candidates"][0].erase("request_runs_s");
  EXPECT_FALSE(kept_measurements(older, recipe, choice.rule));
  EXPECT_FALSE(kept_measurements(Json(), recipe, choice.rule));
}

TEST(ChooseFormat, RulesAreReadOrRefused) {
  const auto rule = parse_choice_rule(
      Json::parse(R"({"choose": {"by": "knee", "among": ["int4", "int8"]}})"), "a recipe");
  ASSERT_TRUE(rule && *rule);
  EXPECT_TRUE((*rule)->by == ChoiceRule::By::kKnee);
  EXPECT_EQ((*rule)->formats, (Names{"int4_g128", "int8"}));
  const auto none = parse_choice_rule(Json::parse(R"({"default": "int4"})"), "a recipe");
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
  for (const char* bad :
       {R"({"choose": "speed"})", R"({"choose": {"by": "luck", "among": ["int4", "int8"]}})",
        R"({"choose": {"by": "speed", "among": ["int4"]}})",
        R"({"choose": {"by": "speed", "among": ["int4", "int9"]}})",
        R"({"choose": {"by": "speed", "among": ["int4", 8]}})"}) {
    EXPECT_FALSE(parse_choice_rule(Json::parse(bad), "a recipe")) << bad;
  }
}

}  // namespace
}  // namespace quench
