#include "measure/slice.h"

#include <gtest/gtest.h>

#include <cmath>

#include "measure/grid.h"
#include "own_cache.h"
#include "test_paths.h"

namespace quench {
namespace {

SessionOptions tiny_slice_session(const std::string& model) {
  SessionOptions options;
  options.model = source_path("tests/tiny_model/" + model);
  options.format = "int8";
  options.random_weights = true;
  options.device_options = {.isa = "ref", .num_threads = 1};
  return options;
}

Plan sliced_plan(const SessionOptions& options) {
  return (*plan_model(options, Weights::kOptional))->plan;
}

TEST(ModelSlice, IsAShareOfTheLayersUnlessTheyWouldFitACache) {
  Plan plan;
  plan.config.num_hidden_layers = 40;
  for (int64_t layer = -1; layer < 40; ++layer) {
    PlannedMatrix& matrix = plan.matrices.emplace_back();
    matrix.layer = layer;
    matrix.bytes = layer < 0 ? 1'000'000 : 1000;
  }
  EXPECT_EQ(slice_layers(plan, 100), 5);
  EXPECT_EQ(slice_layers(plan, 10'000), 21);  // more than twice the cache
  EXPECT_EQ(slice_layers(plan, 1'000'000), 40);
  plan.config.num_hidden_layers = 1;
  EXPECT_EQ(slice_layers(plan, 100), 1);
}

TEST(ModelSlice, HasTheFormatsOfThePlanAndPartsThatAddUp) {
  for (const char* model : {"qwen2", "qwen3_moe"}) {
    SessionOptions options = tiny_slice_session(model);
    options.format.clear();
    options.recipe =
        Recipe{.name = "mixed", .default_format = "int8", .role_formats = {{"q", "bf16"}}};
    const Plan plan = sliced_plan(options);
    const auto slice = ModelSlice::open(options, plan, 64, 2);
    ASSERT_TRUE(slice) << slice.error().message;
    for (const PlannedMatrix& matrix : (*slice)->plan().matrices) {
      for (const PlannedMatrix& whole : plan.matrices) {
        if (whole.role != matrix.role || whole.layer != matrix.layer) continue;
        EXPECT_EQ(matrix.format, whole.format) << role_row(matrix.role).name;
      }
    }
    GridRow row;
    row.tokens = 4;
    row.depth = 8;
    const PassParts parts = (*slice)->run(row);
    for (const double part : {parts.layer_s, parts.attention_s, parts.head_s, parts.rest_s})
      EXPECT_GT(part, 0.0);
    EXPECT_NEAR(parts.total_s(10) - parts.total_s(9), parts.layer_s + parts.attention_s, 1e-12);
  }
}

TEST(ModelSlice, OfWhatIsMoreThanTheMemoryIsRefused) {
  SessionOptions options;
  options.model = "Qwen-72B";
  options.random_weights = true;
  const auto slice = ModelSlice::open(options, sliced_plan(options), 1 << 20, 4096);
  ASSERT_FALSE(slice);
  EXPECT_NE(slice.error().message.find("80 layers"), std::string::npos) << slice.error().message;
}

// 1 ms in a layer and 10 us more for each token, 1 us of attention for each key, 2 ms in the head
// for each row of logits, 0.5 ms beside.
SliceTimes::Row pass_row(const Pass& pass) {
  const auto tokens = static_cast<double>(pass.new_tokens * pass.batch);
  const double keys =
      pass.new_tokens > 1 ? 0.5 * tokens * tokens : static_cast<double>(pass.context * pass.batch);
  return {pass,
          {1e-3 + 1e-5 * tokens, 1e-6 * keys, 2e-3 * static_cast<double>(pass.logit_rows), 5e-4}};
}

TEST(SliceTimes, SayOfEveryPassWhatTheMeasuredOnesImply) {
  const SliceTimes times(
      24, {pass_row({1, 0, 1, 1}), pass_row({1, 0, 16, 16}), pass_row({1, 100, 1, 1}),
           pass_row({16, 0, 1, 1}), pass_row({64, 0, 1, 1}), pass_row({512, 0, 1, 1})});
  const Pass passes[] = {{1, 0, 1, 1}, {1, 50, 1, 1}, {1, 300, 1, 1},
                         {1, 0, 8, 8}, {64, 0, 1, 1}, {256, 0, 1, 1}};
  for (const Pass& pass : passes)
    EXPECT_NEAR(times.pass_s(pass), pass_row(pass).parts.total_s(24), 1e-9) << pass.context;
  // Each query of a later piece sees all the keys before it.
  const double later_s = times.pass_s({512, 512, 1, 0}) - times.pass_s({512, 0, 1, 0});
  EXPECT_NEAR(later_s, 24 * 1e-6 * 512 * 512, 1e-9);
}

TEST(SliceTimes, AreMeasuredOfATinyModel) {
  const SessionOptions options = tiny_slice_session("qwen2");
  const auto times = SliceTimes::measure(options, sliced_plan(options), 20, 40, 2);
  ASSERT_TRUE(times) << times.error().message;
  EXPECT_GT(times->pass_s({1, 10, 1, 1}), 0.0);
  EXPECT_GT(times->pass_s({20, 0, 1, 1}), times->pass_s({1, 0, 1, 1}));
}

TEST(SpeedGrid, PredictsItsRowsInTurnsWithThem) {
  const OwnCache cache;
  GridOptions options;
  options.session = tiny_slice_session("qwen2");
  options.prompt_tokens = {20};
  options.generated_tokens = {4};
  options.repetitions = 3;
  options.predict = true;
  const auto grid = run_grid(options);
  ASSERT_TRUE(grid) << grid.error().message;
  const Json json = grid_json(*grid, "2026-01-31T12:34:56Z");
  for (size_t i = 0; i < grid->rows.size(); ++i) {
    const GridRow& row = grid->rows[i];
    ASSERT_EQ(row.expected_tok_s.size(), 3u);
    ASSERT_TRUE(row.expected_error());
    EXPECT_GT(*row.expected_error(), -1.0);  // how near it is, is for benchmarks to say
    EXPECT_TRUE(std::isfinite(*row.expected_error()));
    EXPECT_EQ(json["rows"][i]["expected_tok_s"].size(), 3u);
  }
  GridRow row;
  row.tok_s = {100.0, 50.0, 100.0};
  row.expected_tok_s = {80.0, 40.0, 100.0};  // slower, so it said longer
  EXPECT_NEAR(*row.expected_error(), 0.25, 1e-12);
  row.expected_tok_s.clear();
  EXPECT_FALSE(row.expected_error());
}

}  // namespace
}  // namespace quench
