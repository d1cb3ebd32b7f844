#include "measure/load.h"

#include <gtest/gtest.h>

#include <deque>

#include "base/clock.h"

namespace quench {
namespace {

// Every request gets three tokens, one per poll and all requests alike. Times are real, since a
// load's schedule is.
class StepTarget : public BenchTarget {
 public:
  Json describe() const override { return {{"target", "fake"}}; }
  Result<int64_t> submit(const BenchRequest& request) override {
    seeds.push_back(request.sampling.seed);
    if (refuse_from > 0 && static_cast<int>(seeds.size()) > refuse_from)
      return tl::unexpected(Error{ErrorCode::kIo, "No more."});
    left_[++last_] = 3;
    most_at_once = std::max(most_at_once, left_.size());
    return last_;
  }
  Result<std::span<const BenchEvent>> poll(double) override {
    events_.clear();
    const double time_s = now_s();
    for (auto it = left_.begin(); it != left_.end();) {
      BenchEvent& event = events_.emplace_back();
      event.request = it->first;
      event.time_s = time_s;
      event.is_token = true;
      event.finished = --it->second == 0;
      event.reason = FinishReason::kLength;
      event.prompt_tokens = 5;
      it = event.finished ? left_.erase(it) : std::next(it);
    }
    return std::span<const BenchEvent>(events_);
  }
  void cancel(int64_t request) override { left_.erase(request); }

  std::vector<uint64_t> seeds;
  size_t most_at_once = 0;
  int refuse_from = 0;

 private:
  std::map<int64_t, int> left_;
  int64_t last_ = 0;
  std::vector<BenchEvent> events_;
};

ProtocolOptions two_tasks() {
  ProtocolOptions options;
  for (const char* name : {"a", "b"}) {
    Task task;
    task.name = name;
    task.prompts["en"] = name;
    options.tasks.push_back(task);
  }
  options.first_seed = 10;
  return options;
}

TEST(Load, KeepsSoManyUnderWay) {
  StepTarget target;
  LoadLevel level;
  const auto done = run_load(target, {}, two_tasks(), {3, std::nullopt, 10}, level);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(target.most_at_once, 3u);
  ASSERT_EQ(level.runs.size(), 10u);
  EXPECT_EQ(level.runs[0].task, "a");
  EXPECT_EQ(level.runs[1].task, "b");
  EXPECT_EQ(target.seeds.front(), 10u);
  EXPECT_EQ(target.seeds.back(), 19u);
  const LoadSummary summary = summarize_load(level, {});
  EXPECT_EQ(summary.failed, 0);
  EXPECT_NEAR(summary.output_tok_s * level.duration_s, 30.0, 1e-6);
  EXPECT_FALSE(summary.good_share);
}

TEST(Load, ArrivalsOfARateFollowFromTheSeed) {
  StepTarget target;
  LoadLevel one, two;
  ASSERT_TRUE(run_load(target, {}, two_tasks(), {std::nullopt, 1000.0, 20}, one));
  ASSERT_TRUE(run_load(target, {}, two_tasks(), {std::nullopt, 1000.0, 20}, two));
  auto gaps = [](const LoadLevel& level) {
    std::vector<double> result;
    for (const BenchRun& run : level.runs) result.push_back(*run.intended_s - level.start_s);
    std::sort(result.begin(), result.end());
    return result;
  };
  ASSERT_EQ(one.runs.size(), 20u);
  const std::vector<double> times = gaps(one);
  const std::vector<double> again = gaps(two);
  EXPECT_EQ(times.front(), 0.0);
  EXPECT_GT(times.back(), 0.002);  // 19 ms are expected
  EXPECT_LT(times.back(), 0.08);
  for (size_t i = 0; i < times.size(); ++i) EXPECT_NEAR(times[i], again[i], 1e-9);
  for (const BenchRun& run : one.runs) {
    EXPECT_GE(run.start_s, *run.intended_s);
    EXPECT_GE(response_ttft_s(run), run.ttft_s);
  }
}

TEST(Load, RefusedRequestsAreKeptAndEndItInTime) {
  StepTarget target;
  target.refuse_from = 2;
  ProtocolOptions options = two_tasks();
  options.max_failures = 3;
  LoadLevel level;
  const auto done = run_load(target, {}, options, {1, std::nullopt, 50}, level);
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message.find("No more. That were 4 failures in a row."),
            std::string::npos);
  EXPECT_EQ(level.runs.size(), 6u);
  EXPECT_EQ(summarize_load(level, {}).failed, 4);
}

BenchRun run_of(double start_s, double ttft_s, double tpot_s, int tokens) {
  BenchRun run;
  run.start_s = start_s;
  run.ttft_s = ttft_s;
  run.generated_tokens = tokens;
  for (int i = 0; i < tokens; ++i) run.token_s.push_back(ttft_s + i * tpot_s);
  run.e2e_s = run.token_s.empty() ? 0.0 : run.token_s.back();
  return run;
}

TEST(Load, GoodputCountsWhatMeetsTheSlo) {
  LoadLevel level;
  level.shape.rate_s = 1.0;
  level.duration_s = 10.0;
  level.runs = {run_of(0.0, 0.1, 0.05, 11), run_of(1.0, 0.6, 0.05, 11), run_of(2.0, 0.1, 0.2, 11),
                run_of(3.0, 0.1, 0.0, 1), run_of(4.0, 0.1, 0.05, 0)};
  level.runs[0].intended_s = 0.0;
  LoadSummary summary = summarize_load(level, {0.5, 0.1});
  EXPECT_DOUBLE_EQ(*summary.good_share, 0.4);  // the first and the single token
  EXPECT_DOUBLE_EQ(*summary.goodput_requests_s, 0.2);
  // Sent half a second late: the user has waited.
  level.runs[0].intended_s = -0.5;
  EXPECT_DOUBLE_EQ(*summarize_load(level, {0.5, 0.1}).good_share, 0.2);
  level.runs[3].error = "broken";
  EXPECT_DOUBLE_EQ(*summarize_load(level, {0.5, 0.1}).good_share, 0.0);
}

TEST(Load, FullRateLeavesOutRampAndTail) {
  LoadLevel level;
  level.shape.concurrency = 2;
  level.runs = {run_of(0.0, 1.0, 1.0, 4), run_of(0.5, 1.0, 1.0, 4), run_of(4.0, 1.0, 1.0, 50)};
  // Full from 0.5 to 4: tokens at 1, 2, 3 and 1.5, 2.5, 3.5.
  EXPECT_NEAR(*summarize_load(level, {}).full_output_tok_s, 6.0 / 3.5, 1e-9);
  level.shape.concurrency = 3;
  EXPECT_FALSE(summarize_load(level, {}).full_output_tok_s);
}

TEST(Load, PercentilesNeedEnoughValues) {
  std::vector<double> values;
  for (int i = 1; i <= 298; ++i) values.push_back(i);
  EXPECT_FALSE(bounded_percentile(std::span(values).first(28), 90.0));
  EXPECT_EQ(bounded_percentile(std::span(values).first(30), 90.0), 27.0);
  EXPECT_FALSE(bounded_percentile(values, 99.0));
  values.push_back(299);
  EXPECT_EQ(bounded_percentile(values, 99.0), 297.0);
  EXPECT_FALSE(bounded_percentile({}, 90.0));
}

}  // namespace
}  // namespace quench
