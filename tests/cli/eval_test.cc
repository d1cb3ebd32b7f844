// quench eval as a stranger uses it: questions with right answers, and the reference that is run
// once. AWQ's scaling is judged here as well: by what it loses.
#include <filesystem>

#include "base/file.h"
#include "cli/cli.h"
#include "own_cache.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// A small evaluation as JSON.
Json evaluated(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "eval");
  arguments.insert(arguments.end(), {"--json", "--threads", "2"});
  const Output output = quench(arguments);
  EXPECT_EQ(output.status, 0) << output.err;
  return parse_json(output.out, "stdout").value_or(Json());
}

const std::vector<std::string> kShort = {"--max-tokens", "200", "--items", "3", "--context", "128"};

std::vector<std::string> with(std::vector<std::string> first,
                              const std::vector<std::string>& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

TEST(CliEvalTasks, QuestionsHaveAnAccuracy) {
  const ScratchDir scratch;
  // Easy: the answer of the first two is what everybody writes there.
  scratch.write(
      "easy.jsonl",
      R"line({"domain": "code", "prompt": "for i in range(10)", "choices": [":\n", "xq"], "answer": 0}
{"domain": "code", "prompt": "import os\nimport", "choices": ["===", " sys\n"], "answer": 1}
{"prompt": "def f(x):\n    return", "choices": [" x\n", " x zebra of the moon\n"], "answer": 1}
)line");
  scratch.write("sums.jsonl", R"({"task": "sums", "max_new_tokens": 8}
{"question": "What is 1 + 1?", "answer": 2}
)");
  const Json json = evaluated(with(
      {"demo", "--tasks", scratch.file("easy.jsonl") + "," + scratch.file("sums.jsonl")}, kShort));
  ASSERT_EQ(json.at("tasks").size(), 2u);
  const Json& easy = json["tasks"][0];
  EXPECT_EQ(easy["task"], "easy");
  EXPECT_EQ(easy["accuracy"]["n"], 3);
  EXPECT_EQ(easy["accuracy"]["correct"], 2);
  EXPECT_NEAR(easy["accuracy"]["percent"].get<double>(), 66.67, 0.01);
  EXPECT_NEAR(easy["accuracy"]["standard_error"].get<double>(), 27.2, 0.1);
  EXPECT_EQ(easy["accuracy_per_byte"]["n"], 3);
  ASSERT_EQ(easy["domains"].size(), 1u);
  EXPECT_EQ(easy["domains"][0]["accuracy"]["correct"], 2);
  EXPECT_EQ(json["tasks"][1]["accuracy"]["n"], 1);
  EXPECT_TRUE(json["tasks"][1]["accuracy_per_byte"].is_null());
  expect_error(quench({"eval", "demo", "--tasks", "nothing"}), {"nothing", "list tasks"});
  scratch.write("bad.jsonl", "{\"prompt\": \"a\"}\n");
  expect_error(quench({"eval", "demo", "--tasks", scratch.file("bad.jsonl")}),
               {"bad.jsonl:1", "answer"});
}

TEST(CliEvalReference, IsRunOnce) {
  const OwnCache cache;
  const std::vector<std::string> arguments =
      with({"demo", "--against", "demo", "--format", "int4"}, kShort);
  const std::string folder = cache.scratch().path() + "/quench/references";
  const Json exact = evaluated(with(arguments, {"--no-reference-cache"}));
  EXPECT_FALSE(fs::exists(folder));
  const Json first = evaluated(arguments);
  EXPECT_EQ(first["reference_stored"], false);
  EXPECT_EQ(first["kld"], exact["kld"]);
  const Json again = evaluated(arguments);
  EXPECT_EQ(again["reference_stored"], true);
  for (const char* same : {"ppl", "accuracy", "top1_agreement", "rms_dp", "noise_floor", "scored"})
    EXPECT_EQ(again[same], first[same]) << same;
  const double kld = first["kld"]["mean"];
  EXPECT_GT(kld, 1e-3);
  EXPECT_NEAR(again["kld"]["mean"].get<double>(), kld, 1e-5 + 1e-3 * kld);
  // Another window is another key; a damaged file is made again, and said.
  EXPECT_EQ(evaluated(with(arguments, {"--stride", "32"}))["reference_stored"], false);
  for (const auto& entry : fs::directory_iterator(folder))
    fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
  const Output damaged = quench(with(with({"eval"}, arguments), {"--json"}));
  EXPECT_EQ(damaged.status, 0);
  EXPECT_NE(damaged.err.find("damaged"), std::string::npos) << damaged.err;
  EXPECT_EQ(parse_json(damaged.out, "stdout")->at("kld"), first["kld"]);
  EXPECT_EQ(evaluated(arguments)["reference_stored"], true);
}

// Folding the scales into norms and rows changes nothing but the rounding: at 8 bits it cannot be
// seen.
TEST(CliAwq, ScalesAreFolded) {
  const ScratchDir scratch;
  const std::string out = scratch.file("awq");
  const Output made = quench({"quantize", "demo", "--format", "int8", "--algorithm", "awq",
                              "--calibration-tokens", "300", "-o", out, "--json"});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_TRUE(parse_json(made.out, "stdout")->at("fallbacks").empty());
  const Json json = evaluated(with({out, "--against", "demo", "--no-reference-cache"}, kShort));
  EXPECT_LT(json["kld"]["mean"].get<double>(), 5e-4);
  // The scales are there: a norm is no longer what it was.
  EXPECT_NE(*read_file(out + "/model.safetensors"), *read_file(demo_dir() + "/model.safetensors"));
  expect_error(quench({"quantize", "demo", "--format", "int4", "--algorithm", "awq", "--rotate",
                       "-o", scratch.file("both")}),
               {"awq", "rotation", "one of the two"});
}

}  // namespace
}  // namespace quench
