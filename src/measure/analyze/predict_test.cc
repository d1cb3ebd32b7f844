#include "measure/analyze/predict.h"

#include <gtest/gtest.h>

#include <cmath>

#include "measure/analyze/accuracy.h"
#include "shipped_predictor.h"

namespace quench {
namespace {

Prediction predict(const std::string& model, const std::string& engine,
                   const std::string& precision, const std::string& device) {
  const Placement setup =
      shipped_predictor().setup(model, engine, precision, find_hardware(device).value()).value();
  return Predictor::predict(setup, shipped_predictor().calibrate(setup, engine));
}

TEST(MapFit, FindsTheConstantsAndKeepsThePriorWhereDataAreSilent) {
  // y = a x + b with a = 3, b = 0.5; c does nothing.
  Observations seen;
  const std::vector<double> x = {1.0, 2.0, 4.0, 8.0};
  for (const double v : x) {
    seen.value.push_back(3.0 * v + 0.5);
    seen.log_sd.push_back(0.001);
  }
  seen.predict = [&](const std::vector<double>& c, size_t i) { return c[0] * x[i] + c[1]; };
  const MapFit fit = fit_map({{1.0, 1.0, 7.0, 0.0}, {2.0, 2.0, 0.3, 1.0}}, seen);
  EXPECT_NEAR(fit.value[0], 3.0, 0.01);
  EXPECT_NEAR(fit.value[1], 0.5, 0.01);
  EXPECT_DOUBLE_EQ(fit.value[2], 7.0);
  EXPECT_EQ(fit.value[3], 0.0);  // fixed
  EXPECT_NEAR(std::sqrt(fit.covariance[2 * 4 + 2]), 0.3, 1e-6);
  EXPECT_LT(std::sqrt(fit.covariance[0]), 0.01);
}

TEST(MapFit, RobustFitsDoNotFollowOneWrongRow) {
  Observations seen;
  seen.value = {2.0, 2.02, 1.98, 2.01, 20.0};
  seen.log_sd.assign(5, 0.02);
  seen.predict = [](const std::vector<double>& c, size_t) { return c[0]; };
  const LogNormals prior = {{1.0}, {3.0}};
  EXPECT_GT(fit_map(prior, seen).value[0], 3.0);
  seen.is_robust = true;
  EXPECT_NEAR(fit_map(prior, seen).value[0], 2.0, 0.05);
}

TEST(Shapes, NamesWithEndings) {
  EXPECT_EQ(find_shape("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4")->name, "Qwen2.5-7B");
  EXPECT_EQ(precision_in_name("Qwen2.5-7B-Instruct-GPTQ-Int4"), "gptq-int4");
  EXPECT_EQ(precision_in_name("Qwen-14B-Chat"), "");
  EXPECT_FALSE(find_shape("Qwen9-7B-Chat"));
  EXPECT_EQ(find_shape("qwen/qwen2.5-7b-instruct-awq")->name, "Qwen2.5-7B");
  EXPECT_EQ(precision_in_name("qwen2.5-7b-instruct-awq"), "awq");
  const ModelShape moe = *find_shape("Qwen3-30B-A3B");
  EXPECT_NEAR(moe.parameters / 1e9, 30.5, 0.1);
  EXPECT_NEAR((moe.active_weights + 2 * moe.head_weights) / 1e9, 3.35, 0.1);
}

TEST(Predictor, ModelsLeftOutArePredicted) {
  double transformers = 0.0, vllm = 0.0, memory = 0.0, awq_memory = 0.0;
  int transformers_groups = 0, vllm_groups = 0, memory_groups = 0, awq_groups = 0;
  int64_t rows = 0;
  for (const AccuracyGroup& group : leave_one_model_out(shipped_predictor())) {
    rows += group.num_rows;
    if (group.kind != "plain") continue;
    EXPECT_LE(group.mean_error, 0.08) << group.engine << " " << group.precision;
    if (group.is_memory && group.precision == "awq") {
      awq_memory += group.mean_error;
      ++awq_groups;
    } else if (group.is_memory) {
      memory += group.mean_error;
      ++memory_groups;
    } else if (group.engine.starts_with("vLLM")) {
      vllm += group.mean_error;
      ++vllm_groups;
    } else {
      transformers += group.mean_error;
      ++transformers_groups;
    }
  }
  EXPECT_GE(vllm_groups, 4);
  EXPECT_GE(transformers_groups, 10);
  EXPECT_GE(memory_groups, 6);
  EXPECT_LE(vllm / vllm_groups, 0.08);
  EXPECT_LE(transformers / transformers_groups, 0.05);
  EXPECT_LE(memory / memory_groups, 0.03);
  EXPECT_LE(awq_memory / awq_groups, 0.08);
  EXPECT_GT(rows, 800);
}

TEST(Predictor, ThePhysicsIsInTheConstants) {
  const Placement setup = shipped_predictor()
                              .setup("Qwen2.5-7B", "vllm", "bf16", find_hardware("A100").value())
                              .value();
  const PredictorFit vllm = shipped_predictor().calibrate(setup, "vLLM 0.6.3");
  EXPECT_GT(vllm.constants[kEfficiency], 0.7);
  EXPECT_LT(vllm.constants[kEfficiency], 0.95);
  EXPECT_EQ(vllm.constants[kHostPerLayer], 0.0);
  const Placement eager =
      shipped_predictor().setup("Qwen2.5-7B", "transformers", "bf16", setup.device).value();
  const PredictorFit transformers =
      shipped_predictor().calibrate(eager, "transformers 4.46.0+FA2.5.8");
  EXPECT_NEAR(transformers.constants[kHostPerLayer], 0.00087, 0.0001);
  EXPECT_STREQ(Predictor::predict(eager, transformers).step.bound(), "host");
  EXPECT_STREQ(Predictor::predict(setup, vllm).step.bound(), "weights");
}

TEST(Predictor, KnowsLessAboutWhatNobodyMeasured) {
  auto width = [](const Interval& i) { return std::log(i.high / i.low); };
  const Prediction known = predict("Qwen2.5-7B", "vLLM 0.6.3", "bf16", "A100");
  const Prediction other_version = predict("Qwen2.5-7B", "vllm", "bf16", "A100");
  const Prediction other_device = predict("Qwen2.5-7B", "vllm", "bf16", "RTX-4090");
  const Prediction other_engine = predict("Qwen2.5-7B", "sglang", "bf16", "H20");
  EXPECT_LT(width(known.tpot_s), width(other_version.tpot_s));
  EXPECT_LT(width(other_version.tpot_s), width(other_device.tpot_s));
  EXPECT_LT(width(known.tpot_s), width(other_engine.tpot_s));
  // A 4090 has half the bandwidth.
  EXPECT_NEAR(other_device.tpot_s.value / known.tpot_s.value, 1.8, 0.3);
}

TEST(Predictor, MoreBatchMoreTokensAndFewerBitsLessTime) {
  Placement setup = shipped_predictor()
                        .setup("Qwen2.5-7B", "vllm", "bf16", find_hardware("A100").value())
                        .value();
  const PredictorFit calibration = shipped_predictor().calibrate(setup, "vllm");
  const double one = Predictor::predict(setup, calibration).decode_tok_s.value;
  setup.batch = 16;
  const Prediction sixteen = Predictor::predict(setup, calibration);
  EXPECT_GT(sixteen.decode_tok_s.value, 8.0 * one);
  EXPECT_LT(sixteen.decode_tok_s.value, 16.0 * one);
  setup.batch = 1;
  setup.devices = 2;
  const double two = Predictor::predict(setup, calibration).decode_tok_s.value;
  EXPECT_GT(two, 1.3 * one);
  EXPECT_LT(two, 2.0 * one);
  EXPECT_LT(predict("Qwen2.5-7B", "vllm", "gptq-int4", "A100").tpot_s.value, 1.0 / one);
}

TEST(Predictor, FollowsRowsThatSomebodyAdds) {
  const char* csv =
      "model,precision,engine,gpu,input_len,output_len,tokens_per_s\n"
      "Qwen3-8B,BF16,SGLang 9,H20-96GB,1,2048,80\n"
      "Qwen3-14B,BF16,SGLang 9,H20-96GB,1,2048,46\n"
      "Qwen3-4B,BF16,SGLang 9,H20-96GB,1,2048,130\n";
  const auto rows = parse_published(csv, "rows.csv");
  ASSERT_TRUE(rows) << rows.error().message;
  const Predictor extended = Predictor::load(*rows).value();
  const Placement setup =
      extended.setup("Qwen3-32B", "sglang", "bf16", find_hardware("H20").value()).value();
  const Prediction prediction = Predictor::predict(setup, extended.calibrate(setup, "SGLang 9"));
  EXPECT_NEAR(prediction.decode_tok_s.value, 21.0, 3.0);
}

TEST(Published, RefusesWhatItCannotRead) {
  EXPECT_NE(parse_published("model,engine\nx,y\n", "r.csv").error().message.find("precision"),
            std::string::npos);
  const auto ragged =
      parse_published("model,precision,engine,gpu,input_len,output_len\nQwen3-8B,BF16\n", "r.csv");
  EXPECT_NE(ragged.error().message.find("line 2 has 2 fields, expected 6"), std::string::npos);
  EXPECT_FALSE(parse_published("", "r.csv"));
  const auto quoted = parse_published(
      "model,precision,engine,gpu,input_len,output_len,note\na,b,c,d,1,2,\"x, \"\"y\"\"\nz\"\n",
      "r.csv");
  ASSERT_TRUE(quoted);
  EXPECT_EQ(quoted->front().note, "x, \"y\"\nz");
}

TEST(Hardware, EveryFileHasItsSources) {
  const auto all = all_hardware();
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(all->size(), 55u);
  EXPECT_EQ(find_hardware("a800")->name, "A800-SXM4-80GB");
  EXPECT_EQ(find_hardware("NVIDIA RTX 3060")->name, "RTX-3060-12GB");
  const auto unknown = find_hardware("RTX-40");
  EXPECT_NE(unknown.error().message.find("RTX-4090"), std::string::npos);
  EXPECT_EQ(unknown.error().code, ErrorCode::kNotFound);
  const Json no_source =
      *parse_json(R"({"name": "X", "values": {"bf16_tflops": {"value": 1, "date": "2026"}}})", "x");
  EXPECT_NE(parse_hardware(no_source, "x.json").error().message.find("source"), std::string::npos);
}

}  // namespace
}  // namespace quench
