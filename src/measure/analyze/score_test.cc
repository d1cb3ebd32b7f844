#include "measure/analyze/score.h"

#include <gtest/gtest.h>

#include "measure/analyze/live.h"
#include "measure/bench_record.h"
#include "measure/grid.h"
#include "measure/history.h"
#include "measure/machine.h"
#include "own_cache.h"

namespace quench {
namespace {

MeasuredModel demo_model() { return {"demo", "", "Qwen2ForCausalLM", "int8", 100, 90, 1000}; }
PredictionKey demo_key() { return prediction_key(demo_model(), "avx512", 2, 1); }

// 1 ms for each token of the prompt, 10 ms and 1 us for each in the cache for the next one.
Result<Prediction> predict_linear(const Placement& setup) {
  Prediction result;
  const double ttft_s = 0.001 * setup.prompt_tokens;
  const double tpot_s = 0.010 + 1e-6 * setup.prompt_tokens;
  result.ttft_s = {ttft_s, 0.8 * ttft_s, 1.25 * ttft_s};
  result.tpot_s = {tpot_s, 0.9 * tpot_s, 1.1 * tpot_s};
  return result;
}

KeptPrediction kept_prediction() {
  Placement setup;
  setup.shape.name = "demo";
  setup.prompt_tokens = 300.0;
  setup.output_tokens = 100.0;
  Ceilings ceilings;
  ceilings.read = {{"memory", 0, 256'000'000, 4, 0, {20.0, 19.0}}};
  ceilings.f32_gflop_s = ceilings.bf16_gflop_s = ceilings.int8_gop_s = {100.0, 90.0};
  return *make_prediction(demo_key(), setup, predict_linear, ceilings, "2026-01-01T00:00:00Z");
}

TEST(KeptPrediction, SaysWhatWasSaidOfEveryLengthUpToItsOwn) {
  const KeptPrediction kept = kept_prediction();
  EXPECT_FALSE(kept.id.empty());
  EXPECT_NEAR(kept.ttft_s(300.0)->value, 0.3, 1e-12);
  EXPECT_NEAR(kept.tpot_s(350.0)->value, 0.01035, 1e-12);
  // Between the points, and no longer than what was asked about.
  EXPECT_NEAR(kept.ttft_s(100.0)->value, 0.1, 1e-6);
  EXPECT_NEAR(kept.ttft_s(100.0)->high, 0.125, 1e-6);
  EXPECT_NEAR(kept.tpot_s(40.0)->value, 0.01004, 1e-5);
  EXPECT_TRUE(kept.ttft_s(400.0));
  EXPECT_FALSE(kept.ttft_s(401.0));
  const auto again = parse_prediction(prediction_json(kept), "here");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(prediction_json(*again), prediction_json(kept));
  EXPECT_FALSE(parse_prediction({{"id", 7}}, "here"));
}

Json demo_record() {
  Bench bench;
  bench.target = {{"target", "engine"}, {"isa", "avx512"}, {"threads", 2}};
  bench.model = demo_model();
  bench.length.name = "full";
  for (int i = 0; i < 4; ++i) {
    BenchRun run;
    run.warmup = i == 0;
    run.prompt_tokens = 100;
    run.generated_tokens = 3;
    run.ttft_s = i == 0 ? 9.0 : 0.120;  // a warm-up does not count
    run.token_s = {run.ttft_s, run.ttft_s + 0.020, run.ttft_s + 0.040};
    if (bench.tasks.empty()) bench.tasks = {{"chat", "en", {}}};
    bench.tasks.front().runs.push_back(run);
  }
  return record_json(bench, "2026-02-01T00:00:00Z");
}

TEST(Score, OfARecordIsThatOfItsMedians) {
  const auto measurement = measurement_of(demo_record());
  ASSERT_TRUE(measurement);
  EXPECT_EQ(measurement->key.format, "int8");
  const std::vector<Score> scores = score(kept_prediction(), *measurement);
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_EQ(scores[0].metric, "ttft_s");
  EXPECT_NEAR(scores[0].error(), 0.1 / 0.12 - 1.0, 1e-4);
  EXPECT_TRUE(scores[0].is_inside());
  EXPECT_EQ(scores[1].metric, "tpot_s");
  EXPECT_NEAR(scores[1].error(), 0.0101 / 0.02 - 1.0, 1e-3);
  EXPECT_FALSE(scores[1].is_inside());
  Json other = demo_record();
  other["target"]["kind"] = "http";
  EXPECT_FALSE(measurement_of(other));
  EXPECT_FALSE(measurement_of({{"schema", "quench.record/1"}}));
}

TEST(Score, FindsThePredictionInTheHistoryAndSaysHowFarOffItWas) {
  const OwnData data;
  const auto measurement = measurement_of(demo_record());
  EXPECT_EQ(*score_measurement(*measurement, Strings::of("en")), "");  // nobody predicted it
  ASSERT_TRUE(keep_prediction(kept_prediction()));
  const auto line = score_measurement(*measurement, Strings::of("en"));
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_EQ(*line,
            "Predicted on 2026-01-01T00:00:00Z: first token 17 % off (inside its interval), time "
            "per token 49 % off (outside its interval).");
  const auto history = History::open(history_path().value());
  EXPECT_EQ((*history)->scores({})->size(), 2u);
}

TEST(Score, OfTheModelAlone) {
  SpeedGrid grid;
  grid.model = "demo";
  grid.measured = demo_model();
  grid.isa = "avx512";
  grid.threads = 2;
  GridRow prefill;
  prefill.is_prefill = true;
  prefill.tokens = 256;
  prefill.tok_s = {1000.0};
  GridRow decode;
  decode.tokens = 32;
  decode.depth = 240;
  decode.tok_s = {80.0};
  GridRow batched = decode;
  batched.batch = 4;
  grid.rows = {prefill, decode, batched};
  const auto measurements = measurements_of(grid, "2026-02-01T00:00:00Z");
  ASSERT_EQ(measurements.size(), 2u);
  EXPECT_EQ(measurements[1].key.batch, 4);
  const std::vector<Score> scores = score(kept_prediction(), measurements[0]);
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_NEAR(scores[0].measured, 0.256, 1e-12);
  EXPECT_NEAR(scores[0].error(), 0.0, 1e-6);
  EXPECT_NEAR(scores[1].measured, 0.0125, 1e-12);
  EXPECT_NEAR(scores[1].predicted, 0.010256, 1e-6);
}

}  // namespace
}  // namespace quench
