#include "measure/protocol.h"

#include <gtest/gtest.h>

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
  Result<std::span<const BenchEvent>> poll() override {
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

}  // namespace
}  // namespace quench
