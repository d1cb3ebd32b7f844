#include "measure/task.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

Result<Task> task_from(const char* text) { return parse_task(*parse_json(text, "t"), "t"); }

constexpr const char* kTask =
    R"({"name": "a", "kind": "generate", "description": "d", "prompts": {"en": "Hello"},
        "max_chars": 100, "sampling": {"temperature": 0.5}})";

TEST(Task, ReadsItsFields) {
  const auto task = task_from(kTask);
  ASSERT_TRUE(task) << task.error().message;
  EXPECT_EQ(task->name, "a");
  EXPECT_EQ(*task->prompt("en"), "Hello");
  EXPECT_EQ(task->max_chars, 100);
  EXPECT_FALSE(task->target_lines);
  EXPECT_EQ(task->prompt("zh").error().code, ErrorCode::kNotFound);
}

TEST(Task, RefusesWhatIsWrong) {
  for (const char* text :
       {R"([])", R"({"name": "a"})", R"({"name": 1, "kind": "generate"})",
        R"({"name": "a", "kind": "other", "description": "d", "prompts": {"en": "x"}})",
        R"({"name": "a", "kind": "generate", "description": "d", "prompts": {}})",
        R"({"name": "a", "kind": "generate", "description": "d", "prompts": {"en": 3}})",
        R"({"name": "a", "kind": "generate", "description": "d", "prompts": {"en": "x"},
            "max_chars": -1})",
        R"({"name": "a", "kind": "generate", "description": "d", "prompts": {"en": "x"},
            "sampling": {"temperature": "hot"}})"}) {
    const auto task = task_from(text);
    ASSERT_FALSE(task) << text;
    EXPECT_EQ(task.error().code, ErrorCode::kInvalidFile) << text;
    EXPECT_EQ(task.error().message.back(), '.') << task.error().message;
  }
}

TEST(Task, SettingsComeInOrder) {
  const auto task = task_from(kTask);
  Protocol protocol;
  protocol.sampling =
      *parse_json(R"({"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 512})", "protocol");
  const auto settings = protocol.settings(*task, {"quick", 0, 1, 16, 0});
  ASSERT_TRUE(settings) << settings.error().message;
  EXPECT_EQ(settings->temperature, 0.5);  // the task's
  EXPECT_EQ(settings->top_p, 0.9);        // the protocol's
  EXPECT_EQ(settings->max_new_tokens, 16);
  EXPECT_EQ(settings->top_k, 0);
}

TEST(Task, ShippedFilesAreGood) {
  const auto protocol = load_protocol();
  ASSERT_TRUE(protocol) << protocol.error().message;
  EXPECT_EQ(protocol->length("full")->warmups, 3);
  EXPECT_EQ(protocol->length("full")->runs, 10);
  EXPECT_TRUE(protocol->length("short"));
  EXPECT_TRUE(protocol->length("quick"));
  EXPECT_EQ(protocol->length("long").error().code, ErrorCode::kNotFound);
  for (const std::string& name : protocol->tasks) {
    const auto task = load_task(name);
    ASSERT_TRUE(task) << task.error().message;
    EXPECT_EQ(task->name, name);
    EXPECT_TRUE(task->prompt("en"));
    EXPECT_TRUE(task->prompt("zh"));
  }
}

}  // namespace
}  // namespace quench
