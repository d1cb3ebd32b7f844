#include "measure/protocol.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace quench {
namespace {

// Answers every request with three tokens, at times that the request's seed decides.
class FakeTarget : public BenchTarget {
 public:
  Json describe() const override { return {{"target", "fake"}}; }
  Result<int64_t> submit(const BenchRequest& request) override {
    seeds.push_back(request.sampling.seed);
    tokens_ = 0;
    return ++id_;
  }
  Result<std::span<const BenchEvent>> poll(double) override {
    event_ = {};
    event_.request = id_;
    event_.time_s = ++tokens_;
    event_.is_token = !cancelled_;
    event_.text = "x";
    event_.finished = cancelled_ || tokens_ == 3;
    event_.reason = cancelled_ ? FinishReason::kCancelled : FinishReason::kLength;
    event_.prompt_tokens = 10;
    return std::span<const BenchEvent>(&event_, 1);
  }
  void cancel(int64_t) override { cancelled_ = true; }

  std::vector<uint64_t> seeds;

 private:
  int64_t id_ = 0;
  int tokens_ = 0;
  bool cancelled_ = false;
  BenchEvent event_;
};

ProtocolOptions options_with_one_task() {
  ProtocolOptions options;
  Task task;
  task.name = "t";
  task.prompts["en"] = "Hello";
  options.tasks = {task};
  options.length = {"test", 2, 3, std::nullopt, 0};
  return options;
}

TEST(Protocol, WarmsUpThenCounts) {
  FakeTarget a, b;
  std::vector<std::vector<TaskRuns>> results;
  std::vector<size_t> order;
  const auto done =
      run_protocol({&a, &b}, {}, options_with_one_task(), results,
                   [&](const RunProgress& progress) { order.push_back(progress.target); });
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(a.seeds, (std::vector<uint64_t>{4, 5, 1, 2, 3}));
  EXPECT_EQ(b.seeds, a.seeds);
  EXPECT_EQ(order, (std::vector<size_t>{0, 1, 1, 0, 0, 1, 1, 0, 0, 1}));
  ASSERT_EQ(results.size(), 2u);
  ASSERT_EQ(results[0].size(), 1u);
  const std::vector<BenchRun>& runs = results[0][0].runs;
  ASSERT_EQ(runs.size(), 5u);
  EXPECT_TRUE(runs[1].warmup);
  EXPECT_FALSE(runs[2].warmup);
  EXPECT_EQ(runs[2].generated_tokens, 3);
  EXPECT_EQ(runs[2].text, "xxx");
  EXPECT_EQ(runs[2].prompt_tokens, 10);
  EXPECT_TRUE(runs[2].engine_token_s.empty());
  EXPECT_NEAR(*runs[2].decode_tok_s(), 1.0, 1e-9);  // two tokens in two seconds
  EXPECT_EQ(summarize_speed(results[0]).decode_tok_s.count, 3);
}

TEST(Protocol, StopsWhenAsked) {
  FakeTarget target;
  std::atomic<bool> stop{false};
  ProtocolOptions options = options_with_one_task();
  options.stop = &stop;
  std::vector<std::vector<TaskRuns>> results;
  const auto done = run_protocol({&target}, {}, options, results, [&](const RunProgress& progress) {
    if (progress.run == 3) stop.store(true);
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(results[0][0].runs.size(), 3u);
}

TEST(Protocol, RatesOfShortAnswersAreUnknown) {
  BenchRun run;
  EXPECT_FALSE(run.decode_tok_s());
  EXPECT_FALSE(run.prefill_tok_s());
  run.token_s = {0.5};
  run.ttft_s = 0.5;
  run.prompt_tokens = 10;
  EXPECT_FALSE(run.decode_tok_s());
  EXPECT_EQ(run.prefill_tok_s(), 20.0);
}

// Decodes faster from run to run, up to a plateau; may fail on the way.
class ClimbingTarget : public BenchTarget {
 public:
  Json describe() const override { return {}; }
  Result<int64_t> submit(const BenchRequest& request) override {
    locked = request.length_locked;
    max_new_tokens = request.sampling.max_new_tokens;
    return ++runs;
  }
  Result<std::span<const BenchEvent>> poll(double) override {
    events_.clear();
    const double speed = 10.0 * std::min(runs, plateau);
    for (int i = 0; i < 3; ++i) {
      BenchEvent& event = events_.emplace_back();
      event.request = runs;
      event.is_token = true;
      event.time_s = 1.0 + i / speed;
    }
    BenchEvent& end = events_.emplace_back();
    end.request = runs;
    end.finished = true;
    end.time_s = 1.0 + 3 / speed;
    if (fails.count(runs) > 0) {
      end.reason = FinishReason::kError;
      end.message = "It broke.";
    }
    return std::span<const BenchEvent>(events_);
  }
  void cancel(int64_t) override {}

  int runs = 0;
  int plateau = 5;
  std::set<int> fails;
  bool locked = false;
  int max_new_tokens = 0;

 private:
  std::vector<BenchEvent> events_;
};

TEST(Protocol, WarmsUpUntilTheSpeedNoLongerClimbs) {
  ProtocolOptions options = options_with_one_task();
  options.length.warmups = 3;
  std::vector<std::vector<TaskRuns>> results;
  auto warmups = [&](int plateau, int64_t most) {
    ClimbingTarget target;
    target.plateau = plateau;
    options.max_warmups = most;
    EXPECT_TRUE(run_protocol({&target}, {}, options, results));
    const auto& runs = results[0][0].runs;
    return std::count_if(runs.begin(), runs.end(), [](const auto& run) { return run.warmup; });
  };
  EXPECT_EQ(warmups(1, 10), 3);
  EXPECT_EQ(warmups(5, 10), 6);  // the sixth is no faster than the fifth
  EXPECT_FALSE(still_climbing(results[0]));
  EXPECT_EQ(results[0][0].runs.size(), 9u);
  EXPECT_EQ(results[0][0].runs.back().seed, 3u);
  EXPECT_EQ(warmups(50, 8), 8);
  EXPECT_TRUE(still_climbing(results[0]));
  EXPECT_EQ(warmups(50, 0), 3);
}

TEST(Protocol, FailedRunsAreKeptAndDoNotCount) {
  ProtocolOptions options = options_with_one_task();
  options.max_failures = 1;
  std::vector<std::vector<TaskRuns>> results;
  ClimbingTarget target;
  target.fails = {3};
  ASSERT_TRUE(run_protocol({&target}, {}, options, results));
  ASSERT_EQ(results[0][0].runs.size(), 5u);
  EXPECT_EQ(results[0][0].runs[2].error, "It broke.");
  EXPECT_EQ(results[0][0].runs[2].token_s.size(), 3u);
  EXPECT_EQ(summarize_speed(results[0]).e2e_s.count, 2);
  ClimbingTarget worse;
  worse.fails = {2, 3, 4, 5};
  const auto ended = run_protocol({&worse}, {}, options, results);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message, "It broke. That were 2 failures in a row.");
  EXPECT_EQ(results[0][0].runs.size(), 3u);
}

TEST(Protocol, LocksTheLength) {
  ProtocolOptions options = options_with_one_task();
  options.locked_tokens = 77;
  std::vector<std::vector<TaskRuns>> results;
  ClimbingTarget target;
  ASSERT_TRUE(run_protocol({&target}, {}, options, results));
  EXPECT_TRUE(target.locked);
  EXPECT_EQ(target.max_new_tokens, 77);
}

TEST(Protocol, TimeAtALengthIsFirstTokenAndTheRest) {
  BenchRun run;
  run.token_s = {0.5, 0.6, 0.7};
  run.ttft_s = 0.5;
  EXPECT_NEAR(*run.tpot_s(), 0.1, 1e-12);
  EXPECT_NEAR(*run.e2e_at_length_s(11), 1.5, 1e-12);
  run.reported_tokens = 4;  // the stop token has no text
  EXPECT_FALSE(run.counts_differ());
  run.reported_tokens = 5;
  EXPECT_TRUE(run.counts_differ());
}

}  // namespace
}  // namespace quench
