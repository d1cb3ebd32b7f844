// GGUF files as MODEL and as the output of `quench convert`: the files of tests/gguf were written
// by ggml-org's own Python package.
#include "base/file.h"
#include "cli/cli.h"

namespace quench {
namespace {

std::string read(const std::string& path) {
  const auto bytes = read_file(path);
  EXPECT_TRUE(bytes) << path;
  return bytes ? *bytes : std::string();
}

std::string logits(const ScratchDir& scratch, const std::string& model,
                   const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"logits",        model,   "--ids",
                                        "1,2,3,9,30,12", "--out", scratch.file("logits.npy")};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Output output = quench(arguments);
  EXPECT_EQ(output.status, 0) << output.err;
  return read(scratch.file("logits.npy"));
}

TEST(CliGguf, LogitsAreThoseOfTheOriginalCheckpoint) {
  const ScratchDir scratch;
  for (const char* name :
       {"qwen1", "qwen2_yarn", "qwen2_moe_norm", "qwen3_tied_f16", "qwen3_moe"}) {
    const std::string of_gguf =
        logits(scratch, source_path(std::string("tests/gguf/") + name + ".gguf"));
    EXPECT_EQ(of_gguf, logits(scratch, source_path(std::string("tests/tiny_model/") + name)))
        << name;
  }
}

// A vocabulary that was written by somebody else, against the tokenizer.json that it came from.
TEST(CliGguf, ConvertKeepsNumbersTokenizerAndTemplate) {
  if (!has_demo()) GTEST_SKIP() << "models/demo is not there";
  const ScratchDir scratch;
  const std::string path = scratch.file("demo.gguf");
  const Output made = quench({"convert", "demo", "--to", "gguf", "-o", path});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_NE(made.out.find("0.00e+00"), std::string::npos) << made.out;
  EXPECT_EQ(logits(scratch, path), logits(scratch, "demo"));
  const std::string text = "Hello, 你好! 3.14 <|im_end|>\n\n  x";
  EXPECT_EQ(quench({"tokenize", path, text, "--special", "--json"}).out,
            quench({"tokenize", "demo", text, "--special", "--json"}).out);
  const std::vector<std::string> prompt = {"--greedy", "--max-new-tokens", "8", "--prompt",
                                           "Hello"};
  std::vector<std::string> run = {"run", path};
  run.insert(run.end(), prompt.begin(), prompt.end());
  const Output answer = quench(run);
  ASSERT_EQ(answer.status, 0) << answer.err;
  run[1] = "demo";
  EXPECT_EQ(answer.out, quench(run).out);
}

TEST(CliGguf, WhatIsStoredInATypeIsTakenOverAsItStands) {
  if (!has_demo()) GTEST_SKIP() << "models/demo is not there";
  const ScratchDir scratch;
  const std::string first = scratch.file("a.gguf");
  const std::string second = scratch.file("b.gguf");
  const Output made = quench({"convert", "demo", "--to", "gguf", "--type", "q4_k", "-o", first});
  ASSERT_EQ(made.status, 0) << made.err;
  const Output again = quench({"convert", first, "--to", "gguf", "-o", second});
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_NE(again.out.find("0.00e+00"), std::string::npos) << again.out;
  // The name is the file's; all else is the same.
  const std::string a = read(first);
  const std::string b = read(second);
  ASSERT_GT(a.size(), size_t{3'000'000});
  EXPECT_EQ(a.substr(a.size() - 3'000'000), b.substr(b.size() - 3'000'000));
  EXPECT_EQ(logits(scratch, first), logits(scratch, second));
}

TEST(CliGguf, WhatCannotBeIsNamed) {
  const ScratchDir scratch;
  const std::string out = scratch.file("x.gguf");
  const auto convert = [&](const std::string& model, const std::string& type) {
    return quench({"convert", model, "--to", "gguf", "--type", type, "-o", out});
  };
  expect_error(convert("demo", "iq2_xxs"), {"\"iq2_xxs\" is only read"});
  expect_error(convert("demo", "int3_g64"), {"int3_g64", "GGUF files do not have", "--type"});
  expect_error(convert("demo", "q9"), {"Unknown format \"q9\""});
  expect_error(convert(source_path("tests/tiny_model/qwen2_window"), "f32"), {"sliding window"});
  expect_error(convert(source_path("tests/tiny_model/qwen2"), "f32"), {"no tokenizer"});
  EXPECT_FALSE(file_exists(out));
  expect_error(quench({"convert", "demo", "--to", "nothing", "-o", out}), {"--to"});
  scratch.write("cut.gguf", read(source_path("tests/gguf/qwen3_moe.gguf")).substr(0, 5000));
  expect_error(quench({"inspect", scratch.file("cut.gguf")}), {"cut off"});
  scratch.write("m-00001-of-00002.gguf", "GGUF");
  expect_error(quench({"inspect", scratch.file("m-00001-of-00002.gguf")}),
               {"m-00002-of-00002.gguf"});
}

}  // namespace
}  // namespace quench
