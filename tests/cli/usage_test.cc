// The command line itself: help, wrong usage, tables, names that do not exist.
#include <filesystem>

#include "base/file.h"
#include "cli/cli.h"

namespace quench {
namespace {

TEST(CliUsage, EveryVerbHasHelpWithExamples) {
  for (const char* verb : {"run", "bench", "ceilings", "inspect", "tokenize", "logits", "shootout",
                           "report", "check", "history", "monitor"}) {
    const Output help = quench({verb, "--help"});
    EXPECT_EQ(help.status, 0) << verb;
    EXPECT_EQ(help.err, "") << verb;
    EXPECT_NE(help.out.find("Examples:\n  quench "), std::string::npos) << verb;
    EXPECT_NE(quench({"--help"}).out.find(std::string("\n  ") + verb), std::string::npos) << verb;
  }
}

TEST(CliUsage, HelpIsGivenHoweverItIsAskedFor) {
  const Output help = quench({"run", "--help"});
  EXPECT_EQ(quench({"help", "run"}).out, help.out);
  EXPECT_EQ(quench({"run", "-h"}).out, help.out);
  EXPECT_EQ(quench({"help"}).out, quench({"--help"}).out);
}

TEST(CliUsage, VersionIsOneLine) {
  const Output version = quench({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_NE(version.out.find('.'), std::string::npos);
  EXPECT_EQ(version.out.find('\n'), version.out.size() - 1);
}

TEST(CliUsage, WrongUsageIsStatus2AndSaysWhat) {
  expect_error(quench({}), {"run", "inspect", "--help"});
  expect_error(quench({"frobnicate"}), {"\"frobnicate\"", "run", "shootout"});
  expect_error(quench({"list"}), {"formats", "quench list --help"});
  expect_error(quench({"list", "colours"}), {"\"colours\"", "formats", "recipes"});
  expect_error(quench({"run", "--nope"}), {"--nope", "quench run --help"});
  expect_error(quench({"rnu"}), {"\"rnu\"", "was \"run\" meant?"});
  expect_error(quench({"run", "--promt=hi"}), {"--promt", "was --prompt meant?"});
  expect_error(quench({"run", "demo", "Tell", "me"}), {"too many: me"});
  expect_error(quench({"run", "--threads", "-1"}), {"--threads", "-1", "1024"});
  expect_error(quench({"run", "--threads", "many"}), {"--threads", "many"});
  expect_error(quench({"run", "--kv-format", "q8"}), {"--kv-format", "q8", "{f32,bf16,int8}"});
  expect_error(quench({"run", "--speculation", "17"}), {"--speculation", "17"});
  expect_error(quench({"run", "--max-batch-size", "0"}), {"--max-batch-size", "0"});
  expect_error(quench({"run", "--speculation", "2", "--no-speculation"}),
               {"--speculation", "--no-speculation"});
  expect_error(quench({"run", "--seed=-1"}), {"--seed", "-1"});
  expect_error(quench({"run", "--raw", "--system", "x"}), {"--raw", "--system"});
  expect_error(quench({"logits", "demo"}), {"--ids", "required"});
  expect_error(quench({"logits", "--ids", "one", "--out", "x.npy"}), {"--ids", "one"});
  expect_error(quench({"--log", "loud", "list", "formats"}), {"loud", "debug"});
}

TEST(CliUsage, TablesAreNotEmptyAndNotColoured) {
  for (const char* table :
       {"formats", "families", "devices", "templates", "shapes", "tasks", "recipes"}) {
    const Output list = quench({"list", table});
    EXPECT_EQ(list.status, 0) << table << list.err;
    EXPECT_FALSE(list.out.empty()) << table;
    EXPECT_EQ(list.out.find('\x1b'), std::string::npos) << table;
  }
}

TEST(CliUsage, UnknownNamesListTheKnownOnes) {
  const ScratchDir scratch;
  const std::string model = tiny_model_with_tokenizer(scratch);
  auto inspect = [&](const char* flag, const char* value) {
    return quench({"inspect", model, "--random-weights", flag, value});
  };
  expect_error(inspect("--format", "int5.5"), {"\"int5.5\"", "int4_g128", "bf16"});
  expect_error(inspect("--recipe", "tiny"), {"\"tiny\"", "int3", "int8"});
  scratch.write("typo.json", R"({"name": "x", "default": "int4", "algoritm": "gptq"})");
  expect_error(inspect("--recipe", scratch.file("typo.json").c_str()), {"algoritm", "algorithm"});
  expect_error(quench({"inspect", "nowhere.gguf"}), {"no such file", "GGUF"});
  expect_error(inspect("--device", "tpu"), {"\"tpu\"", "cpu"});
  expect_error(inspect("--isa", "sse9"), {"\"sse9\"", "ref"});
  expect_error(quench({"run", model, "--random-weights", "--prompt", "x", "--chat-template", "y"}),
               {"\"y\"", "qwen2.5", "qwen3", "--chat-template"});
  EXPECT_EQ(inspect("--recipe", "int4").status, 0);
  EXPECT_EQ(
      quench({"inspect", model, "--random-weights", "--recipe", "int4", "--format", "int4"}).status,
      1);
}

TEST(CliUsage, AFullDiskUnderStdoutIsAnError) {
  const Output output = quench({"list", "formats"}, {}, "/dev/full");
  EXPECT_EQ(output.status, 1);
  expect_error(output, {"stdout", "No space left"});
}

}  // namespace
}  // namespace quench
