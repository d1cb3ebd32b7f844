#include "engine/generation_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace quench {
namespace {

Result<SamplingSettings> merge(const char* text, SamplingSettings base = {}) {
  return merge_generation_config(parse_json(text, "test").value(), "generation_config.json",
                                 std::move(base));
}

TEST(GenerationConfig, ReadsTheFileOfAnInstructModel) {
  const auto settings = merge(R"({"bos_token_id": 151643, "pad_token_id": 151643,
      "do_sample": true, "eos_token_id": [151645, 151643], "repetition_penalty": 1.05,
      "temperature": 0.7, "top_p": 0.8, "top_k": 20, "transformers_version": "4.37.0"})");
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_FALSE(settings->greedy);
  EXPECT_EQ(settings->temperature, 0.7);
  EXPECT_EQ(settings->top_p, 0.8);
  EXPECT_EQ(settings->top_k, 20);
  EXPECT_EQ(settings->repetition_penalty, 1.05);
  EXPECT_EQ(settings->stop_token_ids, (std::vector<int32_t>{151645, 151643}));
  EXPECT_EQ(settings->max_new_tokens, 512);
}

TEST(GenerationConfig, ReadsTheFileOfABaseModel) {
  const auto settings =
      merge(R"({"do_sample": false, "eos_token_id": 151643, "max_new_tokens": 2048})");
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_TRUE(settings->greedy);
  EXPECT_EQ(settings->stop_token_ids, std::vector<int32_t>{151643});
  EXPECT_EQ(settings->max_new_tokens, 2048);
}

TEST(GenerationConfig, AbsentAndNullKeysKeepTheBaseAndListsAreJoined) {
  SamplingSettings base;
  base.greedy = true;
  base.temperature = 0.3;
  base.min_p = 0.1;
  base.stop_token_ids = {3, 5};
  base.stop_strings = {"x"};
  const auto settings = merge(
      R"({"temperature": null, "eos_token_id": [5, 7, 7], "stop_strings": ["x", "y"], "foo": {}})",
      base);
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_TRUE(settings->greedy);
  EXPECT_EQ(settings->temperature, 0.3);
  EXPECT_EQ(settings->min_p, 0.1);
  EXPECT_EQ(settings->stop_token_ids, (std::vector<int32_t>{3, 5, 7}));
  EXPECT_EQ(settings->stop_strings, (std::vector<std::string>{"x", "y"}));
  EXPECT_FALSE(merge(R"({"do_sample": true})", base)->greedy);
}

TEST(GenerationConfig, WrongTypesAndRangesNameTheFileAndTheKey) {
  for (const char* text :
       {R"({"temperature": "hot"})", R"({"top_k": 2.5})", R"({"do_sample": 1})",
        R"({"eos_token_id": ["a"]})", R"({"eos_token_id": 3000000000})", R"({"eos_token_id": -1})",
        R"({"top_p": 1.5})", R"({"max_new_tokens": 0})", R"({"top_k": 18446744073709551615})",
        R"({"stop_strings": [1]})", R"({"stop_strings": ""})", R"({"repetition_penalty": 0})",
        R"([1])"}) {
    const auto settings = merge(text);
    ASSERT_FALSE(settings) << text;
    EXPECT_EQ(settings.error().code, ErrorCode::kInvalidFile);
    EXPECT_EQ(settings.error().message.find("generation_config.json: "), 0u)
        << settings.error().message;
    EXPECT_EQ(settings.error().message.back(), '.');
  }
  EXPECT_EQ(merge(R"({"top_p": 1.5})").error().message,
            "generation_config.json: top_p is 1.5, it must be between 0 and 1.");
}

TEST(SamplingSettings, ValidateRefusesEachSettingOutOfRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [](auto change) {
    SamplingSettings settings;
    change(settings);
    const auto result = validate(settings);
    EXPECT_TRUE(result || (result.error().code == ErrorCode::kInvalidArgument &&
                           result.error().message.back() == '.'));
    return !result;
  };
  EXPECT_FALSE(refused([](auto&) {}));
  EXPECT_FALSE(refused([](auto& s) { s.temperature = 0; }));
  EXPECT_FALSE(refused([](auto& s) { s.top_p = 0, s.min_p = 1, s.logit_bias = {{3, -100}}; }));
  for (const double bad : {-0.1, nan, HUGE_VAL}) {
    EXPECT_TRUE(refused([&](auto& s) { s.temperature = bad; }));
    EXPECT_TRUE(refused([&](auto& s) { s.top_p = bad; }));
    EXPECT_TRUE(refused([&](auto& s) { s.min_p = bad; }));
    EXPECT_TRUE(refused([&](auto& s) { s.repetition_penalty = bad; }));
    EXPECT_TRUE(refused([&](auto& s) { s.presence_penalty = bad * 30; }));
    EXPECT_TRUE(refused([&](auto& s) { s.frequency_penalty = bad * 30; }));
    EXPECT_TRUE(refused([&](auto& s) { s.logit_bias[1] = bad * 3000; }));
  }
  EXPECT_TRUE(refused([](auto& s) { s.repetition_penalty = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.top_k = -1; }));
  EXPECT_TRUE(refused([](auto& s) { s.max_new_tokens = 0; }));
  EXPECT_TRUE(refused([](auto& s) { s.stop_token_ids = {5, -2}; }));
  EXPECT_TRUE(refused([](auto& s) { s.stop_strings = {"a", ""}; }));
  EXPECT_TRUE(refused([](auto& s) { s.logit_bias = {{-1, 0.5}}; }));
}

}  // namespace
}  // namespace quench
