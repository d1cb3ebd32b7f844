// Ctrl-C and the chat on a terminal.
#include <unistd.h>

#include <csignal>

#include "cli/cli.h"

namespace quench {
namespace {

// Long answers that end only at --max_new_tokens: the stop tokens are made impossible.
std::vector<std::string> endless(const std::string& model) {
  return {"run",
          model,
          "--random-weights",
          "--max-seq-len=100000",
          "--max_new_tokens=90000",
          "--chat-template=qwen2.5",
          "--threads=1",
          "--logit_bias=1000:-100",
          "--logit_bias=1002:-100",
          "--logit_bias=1:100",
          "--greedy"};
}

TEST(CliInterrupt, EndsAnAnswerCleanly) {
  const ScratchDir scratch;
  std::vector<std::string> arguments = endless(tiny_model_with_tokenizer(scratch));
  arguments.insert(arguments.end(), {"--prompt", "hello"});
  const Child child = start_quench(arguments, false);
  std::string seen;
  ASSERT_TRUE(read_until(child, "\"", seen)) << seen;
  ::kill(child.pid, SIGINT);
  EXPECT_TRUE(read_until(child, "quench: Stopped by Ctrl-C.\n", seen)) << seen;
  EXPECT_NE(seen.find("; cancelled]\n"), std::string::npos) << seen;
  EXPECT_EQ(wait_for(child), 1);
}

TEST(CliInterrupt, StopsAChatsAnswerAndNotTheChat) {
  const ScratchDir scratch;
  const Child child = start_quench(endless(tiny_model_with_tokenizer(scratch)), true);
  std::string seen;
  auto type = [&](std::string_view keys) {
    seen.clear();
    ASSERT_EQ(::write(child.fd, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  };
  ASSERT_TRUE(read_until(child, "\n> ", seen)) << seen;
  EXPECT_NE(seen.find("Ctrl-D ends"), std::string::npos) << seen;
  for (int turn = 0; turn < 2; ++turn) {
    type("hello\n");
    ASSERT_TRUE(read_until(child, "\"\"\"", seen)) << seen;
    type("\x03");
    ASSERT_TRUE(read_until(child, "cancelled]", seen)) << seen;
    if (seen.find("\n> ", seen.find("cancelled]")) == std::string::npos) {
      seen.clear();
      ASSERT_TRUE(read_until(child, "> ", seen)) << seen;
    }
  }
  type("half a line\x03");
  ASSERT_TRUE(read_until(child, "\n> ", seen)) << seen;
  type("\x04");
  while (read_until(child, "never printed", seen)) {
  }
  EXPECT_EQ(wait_for(child), 0) << seen;
}

}  // namespace
}  // namespace quench
