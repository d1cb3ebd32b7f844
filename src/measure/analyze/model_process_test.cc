#include "measure/analyze/model_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>

#include "base/clock.h"
#include "test_paths.h"

namespace quench {
namespace {

ModelProcessOptions tiny_process() {
  ModelProcessOptions options;
  options.session.model = source_path("tests/tiny_model/qwen2");
  options.session.random_weights = true;
  options.session.format = "int8";
  options.session.device_options = {.isa = "ref", .num_threads = 1};
  options.lengths = {.prompt_tokens = 12, .depth = 8};
  options.run_s = 0.001;
  return options;
}

TEST(ModelProcess, RunsWhatItIsToldAndIsGoneAfterwards) {
  {
    auto process = ModelProcess::start(tiny_process());
    ASSERT_TRUE(process) << process.error().message;
    const auto facts = process->ready();
    ASSERT_TRUE(facts) << facts.error().message;
    EXPECT_EQ(facts->format, "int8");
    EXPECT_EQ(facts->threads, 1);
    EXPECT_GT(facts->planned_bytes, 0);
    for (const bool is_prefill : {false, true}) {
      const double begin_s = now_s() + 0.01;
      ASSERT_TRUE(process->begin(is_prefill, begin_s, begin_s + 0.05));
      const auto speed = process->finish();
      ASSERT_TRUE(speed) << speed.error().message;
      EXPECT_GT(*speed, 0.0);
      EXPECT_GE(now_s(), begin_s + 0.05);  // it worked to the end
    }
  }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);  // no child is left
  EXPECT_EQ(errno, ECHILD);
}

TEST(ModelProcess, SaysWhyItCannotLoad) {
  ModelProcessOptions options = tiny_process();
  options.session.model = "no/such/model";
  auto process = ModelProcess::start(options);
  ASSERT_TRUE(process);
  const auto facts = process->ready();
  ASSERT_FALSE(facts);
  EXPECT_NE(facts.error().message.find("no/such/model"), std::string::npos);
  // Nobody is there any more; asking is no end of this process either.
  EXPECT_TRUE(process->begin(false, 0.0, 0.0));
  const auto speed = process->finish();
  ASSERT_FALSE(speed);
  EXPECT_NE(speed.error().message.find("has ended"), std::string::npos);
}

}  // namespace
}  // namespace quench
