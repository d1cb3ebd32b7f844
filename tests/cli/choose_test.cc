// quench quantize with a recipe that chooses its format by measurement.
#include <filesystem>

#include "base/file.h"
#include "cli/cli.h"

namespace quench {
namespace {

constexpr const char* kRecipe = R"({"name": "mine", "default": "int5_g128", "algorithm": "%s",
    "choose": {"by": "%s", "among": ["int3_g64", "int5_g128", "int8"]}, "kld_budget": %s})";

std::string write_recipe(const ScratchDir& scratch, const char* algorithm, const char* by,
                         const char* budget) {
  char text[400];
  std::snprintf(text, sizeof(text), kRecipe, algorithm, by, budget);
  const std::string path = scratch.file("mine.json");
  EXPECT_TRUE(write_file_atomic(path, text));
  return path;
}

Json make(const ScratchDir& scratch, const std::string& recipe, const std::string& name) {
  const Output made = quench({"quantize", "demo", "--recipe", recipe, "-o", scratch.file(name),
                              "--calibration-tokens", "500", "--json"});
  EXPECT_EQ(made.status, 0) << made.err;
  return *parse_json(made.out, "stdout");
}

TEST(CliChoose, TheKneeIsMeasuredMadeAndJudged) {
  const ScratchDir scratch;
  const Json made = make(scratch, write_recipe(scratch, "gptq", "knee", "0.5"), "knee");
  const Json& choice = made["choice"];
  EXPECT_EQ(choice["by"], "knee");
  EXPECT_EQ(choice["in_budget"], true);
  ASSERT_EQ(choice["candidates"].size(), 3u);
  double last_kld = 1e9;
  double last_bytes = 0.0;
  for (const Json& candidate : choice["candidates"]) {  // the recipe has them by their bits
    EXPECT_GT(candidate["request_s"], 0.0);
    EXPECT_GE(candidate["repetitions"], 5);
    EXPECT_LT(candidate["rounded_kld"].get<double>(), last_kld);
    EXPECT_GT(candidate["bytes"].get<double>(), last_bytes);
    last_kld = candidate["rounded_kld"];
    last_bytes = candidate["bytes"];
    const bool is_chosen = candidate["format"] == choice["chosen"];
    EXPECT_EQ(candidate["kld_mean"].is_null(), !is_chosen);
    // Error feedback loses less than rounding does.
    if (is_chosen) {
      EXPECT_LT(candidate["kld_mean"], candidate["rounded_kld"]);
    }
  }
  EXPECT_EQ(*read_json_file(scratch.file("knee") + "/choice.json"), choice);
  EXPECT_FALSE(std::filesystem::exists(scratch.file("knee") + ".choice.json"));
  EXPECT_GT(made["times"]["forward_s"], 0.0);
  EXPECT_GT(made["times"]["second_moments_s"], 0.0);
  const Output inspected = quench({"inspect", scratch.file("knee"), "--json"});
  EXPECT_NE(inspected.out.find(choice["chosen"].get<std::string>()), std::string::npos);
}

// Whichever is the quickest here: only eight bits lose so little, or nothing does.
TEST(CliChoose, OverTheBudgetBitsGoUp) {
  const ScratchDir scratch;
  const Json within =
      make(scratch, write_recipe(scratch, "rtn", "speed", "0.002"), "within")["choice"];
  EXPECT_EQ(within["chosen"], "int8");
  EXPECT_EQ(within["in_budget"], true);
  EXPECT_LT(within["candidates"][2]["kld_mean"], 0.002);
  EXPECT_TRUE(within["candidates"][0]["rounded_kld"].is_null());
  const Json over = make(scratch, write_recipe(scratch, "rtn", "speed", "1e-9"), "over")["choice"];
  EXPECT_EQ(over["chosen"], "int8");
  EXPECT_EQ(over["in_budget"], false);
}

TEST(CliChoose, RefusesWhatItCannotMeasure) {
  const ScratchDir scratch;
  const std::string recipe = write_recipe(scratch, "rtn", "luck", "0.5");
  expect_error(quench({"quantize", "demo", "--recipe", recipe, "-o", scratch.file("out")}),
               {"mine.json", "\"speed\" or \"knee\"", "luck"});
  EXPECT_FALSE(std::filesystem::exists(scratch.file("out")));
  const Output plan = quench({"quantize", "demo", "--profile", "fast", "--dry-run"});
  EXPECT_EQ(plan.status, 0) << plan.err;
  EXPECT_NE(plan.out.find("chosen by measurement"), std::string::npos);
}

}  // namespace
}  // namespace quench
