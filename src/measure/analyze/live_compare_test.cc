#include "measure/analyze/live_compare.h"

#include <gtest/gtest.h>

#include "own_cache.h"
#include "test_paths.h"

namespace quench {
namespace {

LiveCompareOptions tiny_pair() {
  LiveCompareOptions options;
  for (SessionOptions* session : {&options.a, &options.b}) {
    session->model = source_path("tests/tiny_model/qwen2");
    session->random_weights = true;
    session->format = "int8";
    session->device_options = {.isa = "ref", .num_threads = 1};
  }
  options.lengths = {.prompt_tokens = 12, .depth = 8};
  options.run_s = 0.0;
  options.clock = [] { return 0.0; };  // the budget never ends
  return options;
}

const CompareRow& compared_row(const Comparison& comparison, const std::string& task) {
  for (const CompareRow& row : comparison.rows) {
    if (row.task == task) return row;
  }
  ADD_FAILURE() << task;
  return comparison.rows.front();
}

double product_of(const Breakdown& breakdown) {
  double product = 1.0;
  for (const Cause& cause : breakdown.causes) product *= cause.factor;
  return product;
}

TEST(LiveCompare, FindsTheFasterOfTwoAndBreaksItDown) {
  const OwnCache cache;
  LiveCompareOptions options = tiny_pair();
  // Half the layers of a model that does nothing else.
  options.b.num_layers = 1;
  // As many as a busy machine, which turns some of them round, does not matter for.
  options.pairs = 30;
  const auto comparison = compare_live(options);
  ASSERT_TRUE(comparison) << comparison.error().message;
  EXPECT_EQ(comparison->rows.size(), 2u);
  EXPECT_EQ(comparison->runs_needed, 9);  // 2 / 2^9 < 0.01 / 2 rows
  EXPECT_EQ(compared_row(*comparison, "prefill").metric, "ttft_s");
  EXPECT_EQ(compared_row(*comparison, "decode").verdict, "faster");
  EXPECT_EQ(compared_row(*comparison, "decode").runs_a, 30);
  ASSERT_EQ(comparison->breakdowns.size(), 2u);
  for (const Breakdown& breakdown : comparison->breakdowns) {
    EXPECT_NEAR(product_of(breakdown), breakdown.speedup, 1e-9);
    EXPECT_TRUE(breakdown.missing.empty()) << breakdown.missing;
  }
  ASSERT_TRUE(comparison->live);
  ASSERT_EQ(comparison->live->tests.size(), 2u);
  EXPECT_EQ(comparison->live->tests[0].pairs.count(), 30u);
  const Json json = comparison_json(*comparison);
  EXPECT_EQ(json.at("live").at("tests").at(0).at("a_tok_s").size(), 30u);
  EXPECT_NE(comparison_text(*comparison).find("a difference of 5 % needs"), std::string::npos);
}

TEST(LiveCompare, TooFewPairsTellNothingAndSaySo) {
  const OwnCache cache;
  LiveCompareOptions options = tiny_pair();
  options.pairs = 2;
  const auto comparison = compare_live(options);
  ASSERT_TRUE(comparison) << comparison.error().message;
  EXPECT_EQ(compared_row(*comparison, "decode").verdict, "cannot tell");
  EXPECT_FALSE(comparison->live->tests[0].smallest_difference);
  EXPECT_NE(comparison_text(*comparison).find("no difference: too few"), std::string::npos);
  double now_s = 0.0;
  options.clock = [&] { return now_s += 100.0; };
  const auto late = compare_live(options);
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().message.find("--budget"), std::string::npos);
  const std::atomic<bool> stop = true;
  options.stop = &stop;
  EXPECT_FALSE(compare_live(options));
}

}  // namespace
}  // namespace quench
