// quench plan, explain and compare as a stranger uses them.
#include "base/file.h"
#include "cli/cli.h"
#include "own_cache.h"
#include "test_paths.h"

namespace quench {
namespace {

// The first JSON example of a schema, with this key, in docs/predicting.md.
Json documented(const std::string& schema, const std::string& key = "schema") {
  const std::string text = read_file(source_path("docs/predicting.md")).value();
  const std::string fence = "```json\n";
  for (size_t at = text.find(fence); at != std::string::npos; at = text.find(fence, at + 1)) {
    const size_t begin = at + fence.size();
    const Json json =
        parse_json(text.substr(begin, text.find("\n```", begin) - begin), "predicting.md").value();
    if (json.at("schema") == schema && json.contains(key)) return json;
  }
  ADD_FAILURE() << schema;
  return {};
}

// Every field of the example is in the output, and at the top the other way round too.
void expect_documented(const Json& example, const Json& output, bool is_top = true) {
  if (example.is_array() && output.is_array() && !example.empty() && !output.empty())
    return expect_documented(example[0], output[0], false);
  if (!example.is_object() || !output.is_object()) return;
  for (const auto& [key, value] : example.items()) {
    ASSERT_TRUE(output.contains(key)) << key;
    expect_documented(value, output.at(key), false);
  }
  if (!is_top) return;
  for (const auto& [key, value] : output.items()) EXPECT_TRUE(example.contains(key)) << key;
}

class CliAnalyze : public testing::Test {
 protected:
  const OwnCache cache_;
};

TEST_F(CliAnalyze, PlanOfADeviceAndOfThisMachine) {
  const Output text =
      quench({"plan", "Qwen2.5-7B-Instruct", "--device", "A100", "--engine", "vllm"});
  ASSERT_EQ(text.status, 0) << text.err;
  for (const char* word : {"weights", "it fits", "first token", "bound by memory bandwidth", "USD"})
    EXPECT_NE(text.out.find(word), std::string::npos) << word;
  const Output split =
      quench({"plan", "Qwen2.5-72B", "--device", "A100", "--engine", "vllm", "--json"});
  const Json json = *parse_json(split.out, "stdout");
  EXPECT_EQ(json.at("schema"), "quench.plan/1");
  for (const char* key : {"model", "engine", "precision", "device", "devices", "settings", "memory",
                          "fit", "prediction", "split", "cost"})
    EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_FALSE(json.at("fit").at("fits"));
  expect_documented(documented("quench.plan/1"), json);
  EXPECT_EQ(json.at("split").at("devices"), 2);
  EXPECT_TRUE(json.at("remarks").empty());
  const Output here = quench(
      {"plan", copy_tiny_model(cache_.scratch()), "--prompt", "16", "--output", "8", "--json"});
  ASSERT_EQ(here.status, 0) << here.err;
  const Json plan = *parse_json(here.out, "stdout");
  EXPECT_EQ(plan.at("device").at("name"), "this machine");
  EXPECT_TRUE(plan.at("fit").at("fits"));
}

TEST_F(CliAnalyze, PlanSpeaksChinese) {
  const std::vector<std::string> plan = {"plan",     "Qwen2.5-7B", "--device",
                                         "RTX-4090", "--engine",   "vllm"};
  auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> words = plan;
    words.insert(words.end(), more.begin(), more.end());
    const Output output = quench(words);
    EXPECT_EQ(output.status, 0) << output.err;
    return output.out;
  };
  for (const char* word : {"首字延迟", "放得下", "租用：每台每小时"})
    EXPECT_NE(with({"--lang", "zh"}).find(word), std::string::npos) << word;
  EXPECT_EQ(with({"--json", "--lang", "zh"}), with({"--json"}));
  EXPECT_NE(with({"--recommend", "--lang", "zh"}).find("每词元"), std::string::npos);
  expect_error(quench({"plan", "--lang", "fr"}), {"--lang"});
  const Output here = quench({"plan", copy_tiny_model(cache_.scratch()), "--prompt", "16",
                              "--output", "8", "--lang", "zh"});
  ASSERT_EQ(here.status, 0) << here.err;
  EXPECT_NE(here.out.find("这台机器"), std::string::npos) << here.out;
}

TEST_F(CliAnalyze, CostsAndCurrencies) {
  const Output mixed =
      quench({"plan", "Qwen2.5-7B", "--device", "RTX-3060", "--engine", "llama.cpp", "--precision",
              "q4_k_m", "--rent-device", "A100", "--buy", "2500CNY", "--rent", "2USD"});
  expect_error(mixed, {"CNY", "USD", "--exchange-rate"});
  const Output stated =
      quench({"plan", "Qwen2.5-7B", "--device", "RTX-3060", "--engine", "llama.cpp", "--precision",
              "q4_k_m", "--rent-device", "A100", "--buy", "2500CNY", "--rent", "2USD",
              "--exchange-rate", "USD=7.1CNY", "--demand", "10000000", "--json"});
  ASSERT_EQ(stated.status, 0) << stated.err;
  const Json cost = parse_json(stated.out, "stdout")->at("cost");
  EXPECT_EQ(cost.at("currency"), "CNY");
  EXPECT_TRUE(cost.at("break_even").at("exists"));
  EXPECT_GT(cost.at("hybrid").at("rented_hours_per_day"), 0.0);
  EXPECT_GT(cost.at("concurrency").size(), 3u);
}

TEST_F(CliAnalyze, RecommendsUnderLimits) {
  const Output json = quench({"plan", "Qwen2.5-7B", "--recommend", "--engine", "vllm", "--device",
                              "A100", "--max-tpot", "15ms", "--json"});
  ASSERT_EQ(json.status, 0) << json.err;
  const Json advice = parse_json(json.out, "stdout")->at("recommendation");
  EXPECT_LE(advice.at("best").at("tpot_s").at("high"), 0.015);
  EXPECT_FALSE(advice.at("reason").get<std::string>().empty());
  const Output nothing = quench({"plan", "Qwen2.5-7B", "--recommend", "--engine", "vllm",
                                 "--device", "A100", "--max-tpot", "1us"});
  EXPECT_NE(nothing.out.find("Nothing holds every limit"), std::string::npos);
}

TEST_F(CliAnalyze, ExplainAndCompare) {
  const Output two = quench({"explain", "--device", "A800", "--engine", "transformers",
                             "--precision", "bf16", "--model", "Qwen-7B", "--latency", "0.5s",
                             "--model", "Qwen-14B", "--latency", "7s", "--tflops", "19.5"});
  ASSERT_EQ(two.status, 0) << two.err;
  for (const char* word : {"observed ratio 14.0", "312 dense", "check:", "1.89 by the bytes"})
    EXPECT_NE(two.out.find(word), std::string::npos) << word;
  const Output again = quench({"explain", "--device", "A800", "--engine", "transformers", "--model",
                               "Qwen-7B", "--latency", "0.5s", "--model", "Qwen-14B", "--latency",
                               "7s", "--tflops", "19.5", "--json"});
  expect_documented(documented("quench.explain/1"), *parse_json(again.out, "stdout"));
  const Output cards = quench({"compare", source_path("hardware/published/case_rtx3060.json"),
                               source_path("hardware/published/case_a100.json"), "--json"});
  ASSERT_EQ(cards.status, 0) << cards.err;
  expect_documented(documented("quench.compare/1"), *parse_json(cards.out, "stdout"));
  const Output typed =
      quench({"compare", "--typed", source_path("hardware/published/case_a100.json")});
  EXPECT_EQ(parse_json(typed.out, "stdout")->at("schema"), "quench.record/1");
  expect_error(quench({"explain", "--device", "A800", "--model", "Qwen-7B"}), {"latency"});
  expect_error(quench({"explain", "--device", "Z9", "--model", "Qwen-7B", "--tok-s", "1"}),
               {"Z9", "list hardware"});
  expect_error(quench({"explain", "--device", "A800", "--model", "Qwen-7B", "--latency", "7x"}),
               {"7x"});
  expect_error(quench({"compare", "none.json", "none.json"}), {"none.json"});
}

TEST_F(CliAnalyze, ExplainsARunHere) {
  const Output here =
      quench({"explain", copy_tiny_model(cache_.scratch()), "--isa", "ref", "--threads", "2",
              "--format", "int8", "--prompt", "16", "--depth", "8", "--budget", "1", "--json"});
  ASSERT_EQ(here.status, 0) << here.err;
  const Json json = *parse_json(here.out, "stdout");
  expect_documented(documented("quench.explain/1", "here"), json);
  EXPECT_EQ(json.at("here").at("cases").size(), 2u);
  EXPECT_EQ(json.at("experiments").size(), 6u);
  EXPECT_NE(here.err.find("predicted"), std::string::npos);
  expect_error(quench({"explain", "no/such/model"}), {"no/such/model"});
  expect_error(quench({"explain", "--device", "A800"}), {"--device", "--model"});
  expect_error(quench({"explain", "--model", "Qwen-7B", "--device", "A800", "--tok-s", "1",
                       "--layers", "2"}),
               {"--layers"});
}

TEST_F(CliAnalyze, ComparesTwoModelsHere) {
  const std::string model = copy_tiny_model(cache_.scratch());
  const Output live =
      quench({"compare", model, model, "--live", "--format-b", "int4_g32", "--threads", "1",
              "--prompt", "8", "--depth", "4", "--pairs", "2", "--isa", "ref", "--json"});
  ASSERT_EQ(live.status, 0) << live.err;
  const Json json = *parse_json(live.out, "stdout");
  expect_documented(documented("quench.compare/1"), json);
  EXPECT_EQ(json.at("live").at("tests").size(), 2u);
  EXPECT_NE(json.at("b").get<std::string>().find("int4_g32"), std::string::npos);
  const std::string page = cache_.scratch().file("live.html");
  const Output chinese =
      quench({"compare",  model, model,     "--live", "--threads", "1",   "--prompt", "8",
              "--depth",  "4",   "--pairs", "2",      "--isa",     "ref", "--find",   "100",
              "--budget", "20",  "--lang",  "zh",     "--html",    page});
  ASSERT_EQ(chinese.status, 0) << chinese.err;
  for (const char* words : {"轮流测量", "精确符号检验", "内核"})
    EXPECT_NE(chinese.out.find(words), std::string::npos) << words << "\n" << chinese.out;
  EXPECT_NE(read_file(page)->find("每一对的速度"), std::string::npos);
  expect_error(quench({"compare", model, "no/such/model", "--live"}), {"no/such/model"});
  expect_error(quench({"compare", model, model, "--live", "--format-a", "int99"}), {"int99"});
  expect_error(quench({"compare", "a.json", "b.json", "--pairs", "3"}), {"--pairs", "--live"});
}

TEST_F(CliAnalyze, ExplainsWhatTwoModelsLose) {
  const std::string model = copy_tiny_model(cache_.scratch());
  const Output both =
      quench({"explain", model, "--with", model, "--with-format", "int8", "--isa", "ref",
              "--threads", "1", "--prompt", "8", "--depth", "4", "--budget", "1", "--json"});
  ASSERT_EQ(both.status, 0) << both.err;
  const Json json = *parse_json(both.out, "stdout");
  expect_documented(documented("quench.explain/1", "together"), json);
  EXPECT_EQ(json.at("together").at("models").at(1).at("format"), "int8");
  EXPECT_NE(both.err.find("predicted"), std::string::npos);
  expect_error(quench({"explain", model, "--with", "no/such/model"}), {"no/such/model"});
  expect_error(quench({"explain", model, "--with-format", "int8"}), {"--with"});
}

TEST_F(CliAnalyze, PredictionsAreScored) {
  const OwnData data;
  const std::string model = copy_tiny_model(cache_.scratch());
  const Output nothing = quench({"history", "predictions"});
  EXPECT_NE(nothing.out.find("No prediction"), std::string::npos) << nothing.err;
  const Output plan = quench({"plan", model, "--prompt", "16", "--output", "8"});
  ASSERT_EQ(plan.status, 0) << plan.err;
  EXPECT_NE(plan.out.find("quench history predictions"), std::string::npos);
  EXPECT_NE(quench({"history", "predictions"}).out.find("1 predictions wait"), std::string::npos);
  const Output bench =
      quench({"bench", model, "--pp", "16", "--tg", "4", "--depth", "0,16", "--repetitions", "2"});
  ASSERT_EQ(bench.status, 0) << bench.err;
  EXPECT_NE(bench.out.find("first token"), std::string::npos) << bench.out;
  const Output scores = quench({"history", "predictions", "--json"});
  ASSERT_EQ(scores.status, 0) << scores.err;
  const Json json = *parse_json(scores.out, "stdout");
  expect_documented(documented("quench.scores/1"), json);
  EXPECT_EQ(json.at("scores").size(), 3u);  // one prompt, decoding at two depths
  EXPECT_EQ(json.at("unscored"), 0);
  EXPECT_NE(quench({"history", "predictions"}).out.find("mean error"), std::string::npos);
  // In turns with a slice of the model: what is left is the error of the model of time.
  const Output in_turns =
      quench({"bench", model, "--pp", "16", "--tg", "4", "--repetitions", "2", "--predict"});
  ASSERT_EQ(in_turns.status, 0) << in_turns.err;
  EXPECT_NE(in_turns.out.find("prediction off by %"), std::string::npos) << in_turns.out;
  EXPECT_NE(in_turns.out.find("by what the machine reached beside it"), std::string::npos);
  const Json last =
      parse_json(quench({"history", "predictions", "--json"}).out, "stdout")->at("scores").back();
  EXPECT_TRUE(last.at("model_error").is_number()) << last.dump();
  EXPECT_TRUE(last.at("others_share").is_number()) << last.dump();
  // Another format is another thing.
  const Output other =
      quench({"bench", model, "--format", "int8", "--pp", "16", "--repetitions", "1"});
  EXPECT_EQ(other.out.find("Predicted"), std::string::npos);
}

}  // namespace
}  // namespace quench
