// The memory part of the plan.
#include "plan/plan.h"

#include <gtest/gtest.h>

#include "test_paths.h"

namespace quench {
namespace {

class PlanMemory : public testing::Test {
 protected:
  void SetUp() override {
    const auto json = read_json_file(source_path("tests/tiny_model/qwen2/config.json"));
    ASSERT_TRUE(json) << json.error().message;
    family_ = find_family(*json).value();
    config_ = family_->parse(*json).value();
    device_ = open_device("cpu", {"ref", 1}).value();
  }
  Result<Plan> plan(const PlanGoal& goal) const {
    return make_plan(
        *family_, config_, [](const TensorSpec&) -> Stored { return {find_format("f32")}; },
        *device_, goal);
  }

  const Family* family_ = nullptr;
  ModelConfig config_;
  std::unique_ptr<Device> device_;
};

TEST_F(PlanMemory, PagesForAllSequencesAtTheirLongestWhereTheyFit) {
  PlanGoal goal;
  goal.max_seq_len = 200;
  goal.max_batch_size = 6;
  const Plan all = plan(goal).value();
  EXPECT_EQ(all.num_pages, 24);
  EXPECT_EQ(all.limits.max_pages, 4);
  EXPECT_EQ(all.kv_bytes, 24 * kPageTokens * all.kv_bytes_per_token);
  goal.memory_bytes = all.total_bytes();
  EXPECT_EQ(plan(goal).value().num_pages, 24);
  goal.memory_bytes -= 1;
  EXPECT_EQ(plan(goal).value().num_pages, 23);
  goal.memory_bytes = 1;  // one sequence at least: what is missing shows when it is allocated
  EXPECT_EQ(plan(goal).value().num_pages, 4);
  goal.kv_tokens = 65;  // what was asked for, whatever the memory
  EXPECT_EQ(plan(goal).value().num_pages, 2);
}

TEST_F(PlanMemory, RowsOfLogitsForTheDraftsOfAFewSequences) {
  PlanGoal goal;
  goal.max_draft_tokens = 4;
  EXPECT_EQ(plan(goal).value().limits.max_logit_rows, 5);
  goal.max_batch_size = 3;
  EXPECT_EQ(plan(goal).value().limits.max_logit_rows, 15);
  goal.max_batch_size = 64;
  EXPECT_EQ(plan(goal).value().limits.max_logit_rows, 64);
  goal.max_batch_size = 2;
  goal.max_draft_tokens = 0;
  EXPECT_EQ(plan(goal).value().limits.max_logit_rows, 2);
}

TEST_F(PlanMemory, WhatCannotBeIsSaid) {
  const auto message = [&](auto change) {
    PlanGoal goal;
    change(goal);
    const auto result = plan(goal);
    return result ? std::string() : result.error().message;
  };
  EXPECT_NE(message([](PlanGoal& goal) { goal.max_batch_size = 0; }), "");
  EXPECT_NE(message([](PlanGoal& goal) { goal.max_seq_len = -5; }), "");
  EXPECT_NE(message([](PlanGoal& goal) { goal.max_draft_tokens = 17; }), "");
  EXPECT_NE(message([](PlanGoal& goal) { goal.kv_tokens = -1; }), "");
  EXPECT_NE(message([](PlanGoal& goal) { goal.kv_tokens = (int64_t{1} << 36) + 1; }), "");
}

TEST(Recipe, LayersGoOverRolesAndRolesOverTheDefault) {
  const auto recipe =
      parse_recipe(Json::parse(R"({"name": "r", "default": "int4", "roles": {"down": "int8"},
                      "layers": {"1": {"down": "int6_g128", "q": "int5_g128"}}})"),
                   "a recipe");
  ASSERT_TRUE(recipe) << recipe.error().message;
  EXPECT_EQ(recipe->format_for(Role::kDown, 0), "int8");
  EXPECT_EQ(recipe->format_for(Role::kDown, 1), "int6_g128");
  EXPECT_EQ(recipe->format_for(Role::kQ, 1), "int5_g128");
  EXPECT_EQ(recipe->format_for(Role::kQ, 0), "int4");
  EXPECT_EQ(recipe->formats(), (std::set<std::string>{"int4", "int5_g128", "int6_g128", "int8"}));
  EXPECT_EQ(recipe->layers_json()["1"]["q"], "int5_g128");
  for (const char* bad :
       {R"({"name": "r", "layers": [{"down": "int8"}]})",
        R"({"name": "r", "layers": {"one": {"down": "int8"}}})",
        R"({"name": "r", "layers": {"-1": {"down": "int8"}}})",
        R"({"name": "r", "layers": {"1": {"norm": "int8"}}})", R"({"name": "r", "roles": "int8"})"})
    EXPECT_FALSE(parse_recipe(Json::parse(bad), "a recipe")) << bad;
}

TEST(PlanKvType, NamesAreThoseOfTheFlag) {
  EXPECT_EQ(kv_type_by_name("f32").value(), KvType::kF32);
  EXPECT_EQ(kv_type_by_name("bf16").value(), KvType::kBf16);
  EXPECT_FALSE(kv_type_by_name("int9"));
}

}  // namespace
}  // namespace quench
