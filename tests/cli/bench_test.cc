// quench bench, quench ceilings and --trace as a stranger uses them.
#include "base/file.h"
#include "cli/cli.h"
#include "own_cache.h"

namespace quench {
namespace {

class CliBench : public testing::Test {
 protected:
  const OwnCache cache_;  // the program keeps ceilings there
};

TEST_F(CliBench, CeilingsAreATableAndJsonAndKept) {
  const Output first = quench({"ceilings", "--threads", "1", "--json"});
  ASSERT_EQ(first.status, 0) << first.err;
  const Json json = *parse_json(first.out, "stdout");
  EXPECT_EQ(json.at("threads"), 1);
  EXPECT_EQ(json.at("read").size(), 3u);
  EXPECT_EQ(*parse_json(quench({"ceilings", "--threads", "1", "--json"}).out, "stdout"), json);
  EXPECT_NE(*parse_json(quench({"ceilings", "--threads", "1", "--json", "--measure"}).out, "x"),
            json);
  const Output table = quench({"ceilings", "--threads", "1", "--no-pin"});
  EXPECT_EQ(table.status, 0);
  for (const char* word : {"read, memory", "GB/s", "f32 multiply-add", "int8 dot product", "GOP/s"})
    EXPECT_NE(table.out.find(word), std::string::npos) << word;
}

TEST_F(CliBench, BenchPrintsSpeedsBesideTheirLimits) {
  const std::string model = copy_tiny_model(cache_.scratch());
  const Output text = quench({"bench", model, "--pp", "8,16", "--tg", "2", "--repetitions", "1"});
  ASSERT_EQ(text.status, 0) << text.err;
  for (const char* word : {"prefill 8", "prefill 16", "decode 2", "% of limit", "loaded in"})
    EXPECT_NE(text.out.find(word), std::string::npos) << word;
  const Output json = quench({"bench", model, "--pp", "0", "--tg", "2", "--depth", "0,7", "--batch",
                              "2", "--repetitions", "3", "--json"});
  ASSERT_EQ(json.status, 0) << json.err;
  const Json object = *parse_json(json.out, "stdout");
  EXPECT_EQ(object.at("prefill_tok_s").size(), 0u);
  EXPECT_EQ(object.at("decode_tok_s").size(), 6u);
  EXPECT_EQ(object.at("rows").size(), 2u);
}

TEST_F(CliBench, RunWritesATrace) {
  const std::string trace = cache_.scratch().file("trace.json");
  const Output run = quench({"run", demo_dir(), "--prompt", "hello", "--greedy", "--max_new_tokens",
                             "2", "--trace", trace});
  ASSERT_EQ(run.status, 0) << run.err;
  const auto json = read_json_file(trace);
  ASSERT_TRUE(json) << json.error().message;
  EXPECT_GT(json->at("traceEvents").size(), 100u);
}

TEST_F(CliBench, MistakesAreSaidBeforeTheWork) {
  const std::string model = copy_tiny_model(cache_.scratch());
  expect_error(quench({"bench", model, "--pp", "-1"}), {"--pp", "-1"});
  expect_error(quench({"bench", model, "--batch", "0"}), {"--batch", "0"});
  expect_error(quench({"bench", model, "--pp", "0", "--tg", "0"}), {"--pp", "--tg"});
  expect_error(quench({"bench", model, "--layers", "1"}), {"--random-weights", "--layers"});
  expect_error(quench({"bench", model, "--layers", "9", "--random-weights"}), {"9", "2"});
  expect_error(quench({"bench", model, "--trace", cache_.scratch().path()}), {"directory"});
  expect_error(quench({"run", model, "--prompt", "x", "--trace", "no/such/t.json"}), {"no/such"});
  expect_error(quench({"ceilings", "--isa", "sse9"}), {"\"sse9\"", "ref"});
}

}  // namespace
}  // namespace quench
