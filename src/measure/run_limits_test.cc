#include "measure/run_limits.h"

#include <gtest/gtest.h>

#include "base/paths.h"
#include "engine/session.h"

namespace quench {
namespace {

// A machine that reads 10 GB/s wherever the bytes lie, and computes without end.
Ceilings slow_memory() {
  Ceilings ceilings;
  ReadCeiling read;
  read.level = "memory";
  read.read_gb_s = {10.0, 10.0};
  ceilings.read = {read};
  ceilings.f32_gflop_s = ceilings.bf16_gflop_s = ceilings.int8_gop_s = {1e9, 1e9};
  return ceilings;
}

class RunLimits : public testing::Test {
 protected:
  void SetUp() override {
    SessionOptions options;
    options.device_options.isa = "ref";
    options.device_options.num_threads = 1;
    auto planned = plan_model(options, Weights::kIgnored);
    ASSERT_TRUE(planned) << planned.error().message;
    planned_ = std::move(*planned);
  }
  const Plan& plan() const { return planned_->plan; }
  // One that decodes at this share of its limit, roughly: the cache is small.
  BenchRun run_at(double share, int tokens) const {
    BenchRun run;
    run.prompt_tokens = 20;
    run.generated_tokens = tokens;
    const double step_s = static_cast<double>(plan().read_bytes_per_token) / 1e10 / share;
    run.ttft_s = 2.0 * step_s;
    for (int i = 0; i < tokens; ++i) run.token_s.push_back(run.ttft_s + i * step_s);
    run.e2e_s = run.token_s.back();
    return run;
  }

  std::unique_ptr<PlannedModel> planned_;
};

TEST_F(RunLimits, FollowFromBytesAndCeilings) {
  std::vector<TaskRuns> tasks = {{"t", "en", {run_at(0.5, 101)}}};
  set_run_limits(plan(), slow_memory(), tasks);
  const BenchRun& run = tasks[0].runs[0];
  double sum_s = 0.0;
  for (int i = 0; i < 100; ++i)
    sum_s += pass_limit(plan(), slow_memory(), {1, 20 + i, 1, 1}).limit_s();
  ASSERT_TRUE(run.limit_decode_tok_s);
  EXPECT_NEAR(*run.limit_decode_tok_s, 100.0 / sum_s, 1e-3 * 100.0 / sum_s);
  EXPECT_NEAR(*run.decode_tok_s() / *run.limit_decode_tok_s, 0.5, 0.05);
  EXPECT_NEAR(*run.limit_ttft_s, pass_limit(plan(), slow_memory(), {20, 0, 1, 1}).limit_s(), 1e-9);
  EXPECT_TRUE(impossible_runs(tasks).empty());
}

TEST_F(RunLimits, FasterThanTheLimitIsImpossible) {
  std::vector<TaskRuns> tasks = {{"t", "en", {run_at(1.2, 11), run_at(0.9, 11), run_at(2.5, 11)}}};
  set_run_limits(plan(), slow_memory(), tasks);
  auto found = impossible_runs(tasks);
  ASSERT_EQ(found.size(), 3u);  // the third is too early with its first token, too
  EXPECT_NE(found[0].message.find("Impossible: t with seed 0 decoded"), std::string::npos)
      << found[0].message;
  EXPECT_NE(found[2].message.find("had its first token after"), std::string::npos)
      << found[2].message;
  tasks[0].runs[0].warmup = tasks[0].runs[2].warmup = true;
  EXPECT_TRUE(impossible_runs(tasks).empty());
  // Without what a run needs for its limit there is none.
  tasks[0].runs = {run_at(9.0, 11)};
  tasks[0].runs[0].prompt_tokens.reset();
  set_run_limits(plan(), slow_memory(), tasks);
  EXPECT_FALSE(tasks[0].runs[0].limit_decode_tok_s);
  EXPECT_TRUE(impossible_runs(tasks).empty());
}

TEST_F(RunLimits, ReadsFallIntoTheirSamples) {
  BenchRun run;
  run.start_s = 100.0;
  run.prompt_tokens = 20;
  run.token_s = {0.05, 0.1, 0.2, 0.3};
  BenchRun beside = run;  // in the same steps
  std::vector<TelemetrySample> samples(5);
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].reading.time_s = 100.0 + 0.1 * static_cast<double>(i);
    samples[i].interval.duration_s = i > 0 ? 0.1 : 0.0;
  }
  auto alone = samples;
  add_reads(plan(), slow_memory(), {&run}, alone);
  const auto bytes = static_cast<double>(plan().read_bytes_per_token);
  EXPECT_FALSE(alone[0].read_gb_s);
  EXPECT_NEAR(*alone[1].read_gb_s, 2.0 * bytes / 0.1 / 1e9, 0.1 * bytes / 1e8);
  EXPECT_NEAR(*alone[2].read_gb_s, bytes / 0.1 / 1e9, 0.1 * bytes / 1e8);
  EXPECT_EQ(*alone[4].read_gb_s, 0.0);
  auto both = samples;
  add_reads(plan(), slow_memory(), {&run, &beside}, both);
  EXPECT_LT(*both[2].read_gb_s, 1.2 * *alone[2].read_gb_s);  // weights are read once for both
}

}  // namespace
}  // namespace quench
