#include "measure/analyze/together.h"

#include <gtest/gtest.h>

#include "base/topology.h"
#include "english_in.h"
#include "measure/analyze/live.h"
#include "measure/machine.h"
#include "own_cache.h"
#include "test_paths.h"

namespace quench {
namespace {

Ceilings flat_ceilings(double l3_gb_s, double memory_gb_s) {
  Ceilings ceilings;
  ceilings.read = {{"L3", 50'000'000, 16'000'000, 4, 0, {l3_gb_s, l3_gb_s}},
                   {"memory", 0, 256'000'000, 4, 0, {memory_gb_s, memory_gb_s}}};
  return ceilings;
}

// `bytes` read in 8 ms, and 2 ms of the rest.
Tenant decoding(int threads, int64_t bytes) {
  Tenant tenant;
  tenant.threads = threads;
  tenant.time.weights_s = 0.008;
  tenant.time.layers_s = 0.002;
  tenant.limit.read_bytes = bytes;
  tenant.limit.memory_s = 0.008;
  return tenant;
}

TEST(Together, SharedProcessorsCostHalf) {
  const Tenant small = decoding(2, 10'000'000);  // 1 GB/s each: nothing else is short
  const Forecast forecast = forecast_together(small, small, 2, 0.0, flat_ceilings(40.0, 20.0));
  EXPECT_NEAR(forecast.high, 1.15 * 0.5, 1e-9);
  EXPECT_NEAR(forecast.low, 0.8 * 0.25, 1e-9);
  EXPECT_EQ(forecast.otherwise, 1.0);
  EXPECT_EQ(forecast.because.values.at("share"), "0.50");
  // Where others keep a processor busy already there is less to lose.
  EXPECT_GT(forecast_together(small, small, 2, 2.0, flat_ceilings(40.0, 20.0)).high, forecast.high);
}

TEST(Together, SharedMemoryCostsWhatBothWantOverWhatThereIs) {
  const Tenant large = decoding(2, 150'000'000);  // 15 GB/s each of 20
  const Forecast forecast = forecast_together(large, large, 8, 0.0, flat_ceilings(40.0, 20.0));
  EXPECT_NEAR(forecast.high, 1.15 * 20.0 / 30.0, 1e-9);
  EXPECT_EQ(forecast.otherwise, 1.0);
  // With processors and memory enough there is no loss, and one would refute that.
  const Tenant small = decoding(2, 10'000'000);
  const Forecast none = forecast_together(small, small, 8, 0.0, flat_ceilings(40.0, 20.0));
  EXPECT_GT(none.high, 1.0);
  EXPECT_EQ(none.otherwise, 0.5);
  EXPECT_TRUE(none.can_fail());
}

TEST(Together, TwoThatFitTheCacheAloneMayNotFitItTogether) {
  const Tenant one = decoding(2, 30'000'000);
  const Ceilings ceilings = flat_ceilings(40.0, 20.0);
  const Forecast forecast = forecast_together(one, one, 8, 0.0, ceilings);
  // The weights' 8 ms take twice as long at worst: 10 become 18.
  EXPECT_NEAR(forecast.low, 0.8 * 10.0 / 18.0, 1e-9);
  EXPECT_EQ(forecast.because.values.at("level"), "L3");
}

TEST(Together, CoresOfItsOwnCostWhatHalfTheThreadsDo) {
  const Tenant tenant = decoding(2, 10'000'000);
  PassLimit half = tenant.limit;
  half.memory_s = 0.016;
  const Forecast forecast = forecast_isolated(tenant, half, tenant, 1, flat_ceilings(40.0, 20.0));
  EXPECT_GE(forecast.low, 0.5 / 1.051);
  EXPECT_LT(forecast.high, 0.75);
  EXPECT_EQ(forecast.otherwise, 1.0);
}

SessionOptions busy_session() {
  SessionOptions session;
  session.model = source_path("tests/tiny_model/qwen2");
  session.random_weights = true;
  session.format = "int8";
  session.device_options = {.isa = "ref", .num_threads = 1};
  return session;
}

TEST(Together, MeasuresBothWaysAndReportsEachOnesLoss) {
  const OwnCache cache;
  TogetherOptions options;
  options.a = options.b = busy_session();
  options.b.format = "bf16";
  options.lengths = {.prompt_tokens = 12, .depth = 8};
  options.period_s = 0.01;
  options.rounds = 4;
  options.clock = [] { return 0.0; };  // the budget never ends
  std::vector<std::string> said;
  options.say = [&](const std::string& text) { said.push_back(text); };
  const auto report = explain_together(options);
  ASSERT_TRUE(report) << report.error().message;
  const bool has_halves = topology().core_cpus.size() >= 2;
  ASSERT_EQ(report->experiments.size(), has_halves ? 8u : 4u);
  for (const Experiment& one : report->experiments) {
    EXPECT_EQ(one.unchanged_tok_s.size(), 4u);
    EXPECT_EQ(one.changed_tok_s.size(), 4u);
    EXPECT_FALSE(one.predicted.because.key.empty());
  }
  EXPECT_EQ(report->models[0].facts.format, "int8");
  EXPECT_EQ(report->models[1].facts.format, "bf16");
  for (const TogetherModel& model : report->models) {
    EXPECT_GT(model.alone.decode_tok_s, 0.0);
    EXPECT_GT(model.together.ttft_s, 0.0);
    EXPECT_EQ(model.isolated.has_value(), has_halves);
    EXPECT_NE(Strings::of("en")(model.why).find("of its decode speed"), std::string::npos);
  }
  // All is predicted before anything is measured.
  ASSERT_EQ(said.size(), 2 * report->experiments.size());
  EXPECT_EQ(said.front().find("measured"), std::string::npos);
  EXPECT_NE(said.back().find("measured"), std::string::npos);
  EXPECT_EQ(together_json(*report).at("together").at("models").size(), 2u);
  EXPECT_NE(together_text(*report, Strings::of("en")).find("isolation:"), std::string::npos);
  EXPECT_TRUE(english_in(together_text(*report, Strings::of("zh"))).empty());
  options.b.model = "no/such/model";
  EXPECT_FALSE(explain_together(options));
}

// Two models on one machine, one of them busy: the plain experiment finds it.
TEST(ExplainHere, FindsTheOtherModelOnTheMachine) {
  const OwnCache cache;
  ModelProcessOptions busy;
  busy.session = busy_session();
  busy.lengths = {.prompt_tokens = 48, .depth = 8};
  const int cpus = this_machine().cpus;
  std::vector<ModelProcess> neighbours;
  for (int i = 0; i < cpus; ++i) {
    auto process = ModelProcess::start(busy);
    ASSERT_TRUE(process) << process.error().message;
    neighbours.push_back(std::move(*process));
  }
  for (ModelProcess& one : neighbours) {
    ASSERT_TRUE(one.ready());
    ASSERT_TRUE(one.begin(true, now_s(), now_s() + 1e6));  // until it is stopped
  }
  LiveOptions options;
  options.session = busy_session();
  // With fast kernels, or a generic one would be found first.
  options.session.device_options = DeviceOptions();
  options.session.device_options.num_threads = cpus;
  options.lengths = {.prompt_tokens = 64, .depth = 16};
  options.run_s = 0.1;
  options.pairs = 1;
  options.clock = [] { return 0.0; };
  const auto report = explain_here(options);
  ASSERT_TRUE(report) << report.error().message;
  for (const LiveCase& one : report->cases) {
    EXPECT_EQ(one.limiter.id, "neighbour") << one.limiter.sentence.key;
    EXPECT_TRUE(one.limiter.sentence.values.contains("others"));
  }
}

}  // namespace
}  // namespace quench
