#include "measure/eval/eval_task.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "base/file.h"
#include "test_paths.h"

namespace quench {
namespace {

TEST(EvalTask, TheLastNumberInOneSpelling) {
  const std::pair<const char*, const char*> cases[] = {
      {"So he has 18.", "18"},
      {"2+2=4", "4"},
      {"It costs $1,250.50 now", "1250.5"},
      {"007.0", "7"},
      {"a loss of -3.10 in all", "-3.1"},
      {"10-5", "5"},
      {"minus zero: -0.0", "0"},
      {"3, 4, 5", "5"},
      {"first 7 #### 12 and then 13", "12"},
      {"answer: .5", "5"},
      {"no number", ""},
      {"", ""},
      {"一共有12支。", "12"},
      {"1.2.3", "3"},
  };
  for (const auto& [text, wanted] : cases) EXPECT_EQ(last_number(text), wanted) << text;
}

TEST(EvalTask, ReadsBothKinds) {
  const auto choices = parse_eval_task(
      "{\"task\": \"sky\", \"prefix\": \"<\", \"suffix\": \">\"}\n\n"
      "{\"domain\": \"en\", \"prompt\": \"The sky is\", \"choices\": [\" blue\", \" loud\"], "
      "\"answer\": 1}\r\n",
      "dir/file.jsonl");
  ASSERT_TRUE(choices) << choices.error().message;
  EXPECT_EQ(choices->name, "sky");
  ASSERT_EQ(choices->questions.size(), 1u);
  EXPECT_EQ(choices->questions[0].prompt, "<The sky is>");
  EXPECT_EQ(choices->questions[0].answer, 1u);
  EXPECT_FALSE(choices->is_written());
  // The form of GSM8K needs no first line.
  const auto numbers = parse_eval_task(
      "{\"question\": \"How many?\", \"answer\": \"2 and 3 make 5.\\n#### 5\"}\n"
      "{\"question\": \"And then?\", \"answer\": 6.50}",
      "dir/gsm.jsonl");
  ASSERT_TRUE(numbers) << numbers.error().message;
  EXPECT_EQ(numbers->name, "gsm");
  EXPECT_TRUE(numbers->is_written());
  EXPECT_EQ(numbers->questions[0].number, "5");
  EXPECT_EQ(numbers->questions[1].number, "6.5");
}

TEST(EvalTask, BadLinesAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no question"},
      {"{\"task\": \"alone\"}", "no question"},
      {"[1]", "an object"},
      {"{\"prompt\": \"a\"}", "\"answer\" is missing"},
      {"{\"prompt\": \"\", \"answer\": 1}", "some text"},
      {"{\"prompt\": \"a\", \"answer\": \"none\"}", "a number"},
      {"{\"prompt\": \"a\", \"choices\": [\"b\"], \"answer\": 0}", "at least two"},
      {"{\"prompt\": \"a\", \"choices\": [\"b\", \"\"], \"answer\": 0}", "some text in each"},
      {"{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 2}", "the index"},
      {"{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": -1}", "0 to 1000000"},
      {"{\"prompt\": \"a\", \"choices\": \"b\", \"answer\": 0}", "a list"},
      {"{\"prompt\": \"a\", \"answer\": 1}\n{\"prompt\": \"a\", \"choices\": [\"b\", \"c\"], "
       "\"answer\": 0}",
       "f.jsonl:2: questions with"},
      {"{\"task\": \"t\", \"max_new_tokens\": 0}\n{\"prompt\": \"a\", \"answer\": 1}",
       "at least one new token"},
  };
  for (const auto& [text, wanted] : cases) {
    const auto task = parse_eval_task(text, "f.jsonl");
    ASSERT_FALSE(task) << text;
    EXPECT_NE(task.error().message.find(wanted), std::string::npos) << task.error().message;
    EXPECT_TRUE(task.error().message.starts_with("f.jsonl"));
  }
  EXPECT_EQ(load_eval_task("nothing").error().code, ErrorCode::kNotFound);
}

TEST(EvalTask, TheShippedOnesAreWhole) {
  const auto choices = load_eval_task(source_path("tasks/eval/choices.jsonl"));
  ASSERT_TRUE(choices) << choices.error().message;
  EXPECT_EQ(choices->questions.size(), 60u);
  std::array<int, 4> answers{};
  for (const EvalQuestion& question : choices->questions) {
    ASSERT_EQ(question.choices.size(), 4u) << question.prompt;
    ++answers[question.answer];
  }
  for (const int count : answers) EXPECT_GE(count, 10);  // no place is right most of the time
  const auto arithmetic = load_eval_task(source_path("tasks/eval/arithmetic.jsonl"));
  ASSERT_TRUE(arithmetic) << arithmetic.error().message;
  EXPECT_EQ(arithmetic->questions.size(), 20u);
}

// The test split of GSM8K, where somebody has put it; it is not part of this repository.
TEST(EvalTask, ReadsGsm8kAsItIsPublished) {
  const char* set = std::getenv("QUENCH_TEST_DATA");
  const std::string dir = set != nullptr ? set : source_path("../shared/data");
  const std::string path = dir + "/eval/gsm8k_test.jsonl.xz";
  if (!file_exists(path)) GTEST_SKIP() << "no eval/gsm8k_test.jsonl.xz in QUENCH_TEST_DATA";
  if (std::system("command -v xz >/dev/null") != 0) GTEST_SKIP() << "xz is not installed";
  FILE* pipe = ::popen(("xz -dc '" + path + "' 2>/dev/null").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string text(size_t{1} << 20, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), pipe));
  ASSERT_EQ(::pclose(pipe), 0) << path;
  const auto task = parse_eval_task(text, "gsm8k_test.jsonl");
  ASSERT_TRUE(task) << task.error().message;
  ASSERT_EQ(task->questions.size(), 1319u);
  EXPECT_EQ(task->questions[0].number, "18");
  EXPECT_EQ(task->questions[1].number, "3");
}

}  // namespace
}  // namespace quench
