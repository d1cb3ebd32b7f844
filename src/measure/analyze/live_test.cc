#include "measure/analyze/live.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>

#include "english_in.h"
#include "measure/analyze/neighbour.h"
#include "own_cache.h"
#include "test_paths.h"

namespace quench {
namespace {

PassTime bound_by_weights() {
  PassTime time;
  time.weights_s = 0.008;
  time.layers_s = 0.002;
  return time;
}

// A clock that moves by a second with every look, and arms with given speeds, in turn.
struct FakeTarget {
  double time_s = 0.0;
  std::vector<double> speeds;
  size_t calls = 0;
  std::string* order = nullptr;
  char name = ' ';

  Arm arm() {
    return [this]() -> Result<double> {
      if (order != nullptr) *order += name;
      return speeds[calls++ % speeds.size()];
    };
  }
};

Experiment try_out(const Forecast& predicted, std::vector<double> a, std::vector<double> b) {
  Experiment experiment;
  experiment.predicted = predicted;
  FakeTarget unchanged{.speeds = std::move(a)};
  FakeTarget changed{.speeds = std::move(b)};
  double time_s = 0.0;
  Turns turns;
  turns.deadline_s = 100.0;
  turns.clock = [&] { return time_s += 1.0; };
  EXPECT_TRUE(measure_in_turns(turns, unchanged.arm(), changed.arm(), experiment));
  return experiment;
}

TEST(Experiments, HalfTheBytesOfARunBoundByThem) {
  Change change;
  change.model_factor = 0.5;
  change.full = 2.0;
  change.uncertainty = 1.1;
  const Forecast forecast = forecast_change(bound_by_weights(), change);
  // 10 ms become 8 / 2 + 2 = 6 ms, with 10 % either way on the 4.
  EXPECT_NEAR(forecast.low, 10.0 / (4.4 + 2.0) / 1.05, 1e-9);
  EXPECT_NEAR(forecast.high, 10.0 / (4.0 / 1.1 + 2.0) * 1.05, 1e-9);
  EXPECT_EQ(forecast.otherwise, 1.0);  // farther from 1.67 than 2
  EXPECT_TRUE(forecast.can_fail());
}

TEST(Experiments, HalfTheBytesOfARunBoundByOverhead) {
  PassTime time;
  time.weights_s = 0.001;
  time.layers_s = 0.009;
  Change change;
  change.model_factor = 0.5;
  change.full = 2.0;
  const Forecast forecast = forecast_change(time, change);
  EXPECT_LT(forecast.high, 1.15);
  EXPECT_EQ(forecast.otherwise, 2.0);
}

TEST(Experiments, TwiceTheBatchNearlyDoubles) {
  Change change;
  change.model_factor = 1.0;
  change.tokens_factor = 2.0;
  change.rest_high = 2.0;
  change.full = 2.0;
  const Forecast forecast = forecast_change(bound_by_weights(), change);
  EXPECT_GT(forecast.low, 1.3);
  EXPECT_GT(forecast.high, 2.0);
  EXPECT_EQ(forecast.otherwise, 1.0);
}

TEST(Experiments, ANeighbourTakesItsShareOfTheProcessors) {
  const Forecast alone = forecast_neighbour(2, 2, 0.0, 2);
  EXPECT_NEAR(alone.high, 1.15 * 0.5, 1e-9);
  EXPECT_NEAR(alone.low, 0.8 * 0.25, 1e-9);
  // With others there already it costs less, with free processors hardly anything.
  EXPECT_GT(forecast_neighbour(2, 2, 4.0, 2).high, alone.high);
  EXPECT_FALSE(forecast_neighbour(2, 2, 0.0, 8).high < 0.9);
}

TEST(Experiments, FewerThreadsLoseLessToOthers) {
  Forecast alone;
  alone.low = 0.5;
  alone.high = 0.8;
  alone.otherwise = 1.0;
  alone.because = {"explain.because.threads"};
  // Where there is room for all, nothing changes.
  const Forecast roomy = forecast_fewer_threads(alone, 2, 1, 2.0, 8);
  EXPECT_EQ(roomy.low, alone.low);
  EXPECT_EQ(roomy.high, alone.high);
  EXPECT_EQ(roomy.otherwise, alone.otherwise);
  // Two threads and 1.2 CPUs of others want 3.2 of 2 CPUs, one thread 2.2.
  const Forecast beside = forecast_fewer_threads(alone, 2, 1, 1.2, 2);
  EXPECT_NEAR(beside.low, 0.5 * 3.2 / 2.2, 1e-9);
  EXPECT_NEAR(beside.high, 0.8 * std::pow(3.2 / 2.2, 2.0), 1e-9);
  EXPECT_TRUE(beside.can_fail());
  EXPECT_EQ(beside.because.key, "explain.because.threads_beside");
}

TEST(Experiments, Verdicts) {
  Forecast forecast;
  forecast.low = 1.5;
  forecast.high = 1.9;
  const std::vector<double> flat = {100.0, 101.0, 99.0};
  EXPECT_EQ(try_out(forecast, flat, {170.0, 172.0, 168.0}).outcome, Outcome::kHeld);
  const Experiment refuted = try_out(forecast, flat, {101.0, 99.0, 100.0});
  EXPECT_EQ(refuted.outcome, Outcome::kRefuted);
  EXPECT_NEAR(refuted.ratio, 1.0, 0.02);
  // Faster than the cause can make it is no proof of it either.
  EXPECT_EQ(try_out(forecast, flat, {300.0}).outcome, Outcome::kRefuted);
  const Experiment noisy =
      try_out(forecast, {100.0}, {60.0, 90.0, 300.0, 140.0, 170.0, 95.0, 250.0, 80.0});
  EXPECT_EQ(noisy.outcome, Outcome::kCannotTell);
  EXPECT_EQ(noisy.note.key, "explain.note.spread");
  // Off the prediction, with an interval that reaches into it.
  const Experiment edge =
      try_out(forecast, {100.0}, {130.0, 131.0, 132.0, 133.0, 151.0, 152.0, 132.0, 153.0});
  EXPECT_EQ(edge.outcome, Outcome::kCannotTell);
  EXPECT_EQ(edge.note.key, "explain.note.edge");
  // A prediction that nothing could refute proves nothing.
  forecast.low = 0.9;
  const Experiment vague = try_out(forecast, flat, {170.0, 172.0, 168.0});
  EXPECT_EQ(vague.outcome, Outcome::kCannotTell);
  EXPECT_NE(outcome_text(vague, Strings::of("en")).find("otherwise"), std::string::npos);
}

TEST(Experiments, ManyAtOnceNeedMoreThanOneAlone) {
  Forecast forecast;
  forecast.low = 1.5;
  forecast.high = 1.9;
  auto tried = [&](size_t pairs, double changed_tok_s) {
    Experiment one;
    one.predicted = forecast;
    one.unchanged_tok_s.assign(pairs, 100.0);
    one.changed_tok_s.assign(pairs, changed_tok_s);
    judge(one);
    return one;
  };
  // Six pairs that agree are found by chance 3 times in 100, and once in 5 times by one of six.
  std::vector<Experiment> six(6, tried(6, 170.0));
  ASSERT_EQ(six[0].outcome, Outcome::kHeld);
  EXPECT_NEAR(six[0].p, 2.0 / 64.0, 1e-12);
  judge_together(six);
  for (const Experiment& one : six) {
    EXPECT_EQ(one.outcome, Outcome::kCannotTell);
    EXPECT_NEAR(*one.p_together, 6.0 * 2.0 / 64.0, 1e-12);
    EXPECT_NE(Strings::of("en")(one.note).find("held alone"), std::string::npos);
  }
  // Eight are enough, and what was not tried does not count.
  std::vector<Experiment> enough(6, tried(8, 170.0));
  enough.emplace_back().note = {"explain.why.one_thread"};
  judge_together(enough);
  EXPECT_EQ(enough[5].outcome, Outcome::kHeld);
  EXPECT_FALSE(enough[6].p_together);
  std::vector<Experiment> wrong = {tried(6, 100.0), tried(10, 170.0)};
  judge_together(wrong);
  EXPECT_EQ(wrong[0].outcome, Outcome::kRefuted);  // the weaker of two: 0.03
  EXPECT_EQ(wrong[1].outcome, Outcome::kHeld);
}

TEST(Experiments, TurnsAreAbbaAndEndAtTheDeadline) {
  std::string order;
  FakeTarget a{.speeds = {1.0}, .order = &order, .name = 'a'};
  FakeTarget b{.speeds = {2.0}, .order = &order, .name = 'b'};
  Experiment experiment;
  double time_s = 0.0;
  Turns turns;
  turns.deadline_s = 3.0;
  turns.clock = [&] { return time_s += 1.0; };
  ASSERT_TRUE(measure_in_turns(turns, a.arm(), b.arm(), experiment));
  EXPECT_EQ(order, "abba");
  EXPECT_EQ(experiment.outcome, Outcome::kCannotTell);
  EXPECT_EQ(experiment.note.values.at("pairs"), "2");
  EXPECT_EQ(experiment.ratio, 2.0);
  const Arm broken = []() -> Result<double> { return fail(ErrorCode::kIo, "No."); };
  time_s = 0.0;
  EXPECT_FALSE(measure_in_turns(turns, a.arm(), broken, experiment));
}

MeasuredPass decode_pass() {
  MeasuredPass pass;
  pass.tokens = 1;
  pass.layers = 4;
  pass.time = bound_by_weights();
  pass.limit.read_bytes = 40'000'000;
  pass.limit.memory_s = 0.004;
  pass.limit.compute_s = 0.001;
  pass.read_gb_s = 10.0;
  pass.read_level = "memory";
  pass.threads = 2;
  pass.cpus = 2;
  return pass;
}

TEST(Limiter, NamesEachCauseWithItsArithmetic) {
  MeasuredPass pass = decode_pass();
  Limiter limiter = find_limiter(pass);
  EXPECT_EQ(limiter.id, "weights");
  EXPECT_NEAR(limiter.share_of_limit, 0.4, 1e-9);
  // 40 MB in 10 ms.
  const std::string sentence = Strings::of("en")(limiter.sentence);
  EXPECT_NE(sentence.find("4.0 GB/s, 40 % of the 10.0 GB/s"), std::string::npos) << sentence;
  pass.limit.compute_s = 0.006;
  EXPECT_EQ(find_limiter(pass).id, "compute");
  pass = decode_pass();
  pass.time.attention_s = 0.02;
  EXPECT_EQ(find_limiter(pass).id, "kv");
  pass = decode_pass();
  pass.time.layers_s = 0.02;
  limiter = find_limiter(pass);
  EXPECT_EQ(limiter.id, "layers");
  EXPECT_EQ(limiter.sentence.values.at("us"), "5000.0");
  pass = decode_pass();
  pass.time.waiting_s = 0.02;
  EXPECT_EQ(find_limiter(pass).id, "waiting");
  pass = decode_pass();
  pass.time.host_s = 0.02;
  EXPECT_EQ(find_limiter(pass).id, "host");
  pass = decode_pass();
  pass.time.sampler_s = 0.02;
  EXPECT_EQ(find_limiter(pass).id, "sampler");
}

TEST(Limiter, CausesThatLieOverAllOfIt) {
  MeasuredPass pass = decode_pass();
  pass.others_cpus = 0.2;
  EXPECT_EQ(find_limiter(pass).id, "weights");
  pass.others_cpus = 2.0;  // 2 threads and 2 others on 2 CPUs
  EXPECT_EQ(find_limiter(pass).id, "neighbour");
  EXPECT_NEAR(find_limiter(pass).share_of_time, 0.5, 1e-9);
  pass.generic_share = 0.9;
  pass.generic_kernel = "ref_generic";
  EXPECT_EQ(find_limiter(pass).id, "generic_kernel");
  pass.available_bytes = 1000;
  pass.planned_bytes = 2000;
  EXPECT_EQ(find_limiter(pass).id, "overflow");
  pass.available_bytes.reset();
  pass.major_faults = 100;
  EXPECT_EQ(find_limiter(pass).id, "overflow");
}

TEST(Neighbour, RunsOnlyWhileItIsWanted) {
  const auto device = open_device("cpu", {.isa = "ref", .num_threads = 1});
  ASSERT_TRUE(device);
  auto neighbour = Neighbour::create(1, (*device)->probes());
  ASSERT_TRUE(neighbour) << neighbour.error().message;
  EXPECT_FALSE(neighbour->is_running());
  ASSERT_TRUE(neighbour->start());
  EXPECT_TRUE(neighbour->is_running());
  neighbour->stop();
  EXPECT_FALSE(neighbour->is_running());
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);  // no child is left
  EXPECT_EQ(errno, ECHILD);
}

LiveOptions tiny() {
  LiveOptions options;
  options.session.model = source_path("tests/tiny_model/qwen2");
  options.session.random_weights = true;
  options.session.format = "int8";
  options.session.device_options = {.isa = "ref", .num_threads = 2};
  options.lengths = {.prompt_tokens = 20, .depth = 10};
  options.run_s = 0.001;
  options.pairs = 1;
  options.clock = [] { return 0.0; };  // the budget never ends
  return options;
}

TEST(ExplainHere, MeasuresAndTriesEveryExperiment) {
  const OwnCache cache;
  LiveOptions options = tiny();
  std::vector<std::string> said;
  options.say = [&](const std::string& text) { said.push_back(text); };
  const auto report = explain_here(options);
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_EQ(report->cases.size(), 2u);
  for (const LiveCase& one : report->cases) {
    // Nothing but the generic kernel at this level; a busy machine does not hide it.
    EXPECT_EQ(one.limiter.id, "generic_kernel");
    EXPECT_GT(one.pass.time.weights_s, 0.0);
    EXPECT_GT(one.pass.time.layers_s, 0.0);
    EXPECT_FALSE(one.conclusion.key.empty());
  }
  EXPECT_GT(report->cases[1].pass.time.sampler_s, 0.0);
  ASSERT_EQ(report->experiments.size(), 6u);
  for (const Experiment& one : report->experiments) {
    EXPECT_LE(one.predicted.low, one.predicted.high) << one.id;
    EXPECT_FALSE(one.predicted.because.key.empty()) << one.id << ": " << one.note.key;
    EXPECT_EQ(one.unchanged_tok_s.size(), one.changed_tok_s.size());
  }
  // A prediction is said before its outcome.
  ASSERT_GE(said.size(), 4u);
  EXPECT_NE(said[2].find("predicted"), std::string::npos);
  EXPECT_EQ(said[3].rfind("  ", 0), 0u);
  const Json json = live_json(*report);
  EXPECT_EQ(json["schema"], "quench.explain/1");
  EXPECT_EQ(json["experiments"].size(), 6u);
  EXPECT_NE(live_text(*report, Strings::of("en")).find("silent fall-back"), std::string::npos);
  EXPECT_TRUE(english_in(live_text(*report, Strings::of("zh"))).empty())
      << english_in(live_text(*report, Strings::of("zh")));
}

TEST(ExplainHere, ConcludesFromTheExperimentsOfTheCase) {
  std::vector<Experiment> experiments(3);
  for (Experiment& one : experiments) one.test = "decode";
  auto concluded = [&](const char* test, const char* limiter) {
    return Strings::of("en")(conclude(test, limiter, experiments));
  };
  EXPECT_NE(concluded("decode", "weights").find("not proven"), std::string::npos);
  experiments[0].outcome = Outcome::kHeld;
  EXPECT_NE(concluded("decode", "weights").find("1 predictions held, 2"), std::string::npos);
  EXPECT_NE(concluded("decode", "neighbour").find("not removed"), std::string::npos);
  experiments[1].outcome = Outcome::kRefuted;
  experiments[1].id = "fewer_threads";
  EXPECT_NE(concluded("decode", "weights").find("refuted by fewer_threads"), std::string::npos);
  EXPECT_NE(concluded("prefill", "compute").find("not proven"), std::string::npos);
}

}  // namespace
}  // namespace quench
