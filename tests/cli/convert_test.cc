// quench convert to the layouts of other programs: what has a place there keeps its numbers.
#include <filesystem>

#include "base/file.h"
#include "cli/cli.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

std::string logits_of(const ScratchDir& scratch, const std::string& model,
                      const std::vector<std::string>& more = {}) {
  std::vector<std::string> command = {"logits", model, "--ids", "1,2,3,9,30,12",
                                      "--isa",  "ref", "--out", scratch.file("logits.npy")};
  command.insert(command.end(), more.begin(), more.end());
  const Output output = quench(command);
  EXPECT_EQ(output.status, 0) << output.err;
  const auto bytes = read_file(scratch.file("logits.npy"));
  return bytes ? *bytes : std::string();
}

Output convert(const std::string& model, const std::string& to, const std::string& out,
               const std::vector<std::string>& more = {}) {
  std::vector<std::string> command = {"convert", model, "--to", to, "-o", out};
  command.insert(command.end(), more.begin(), more.end());
  return quench(command);
}

// Files that the libraries wrote, of every layout.
TEST(CliConvert, EveryLayoutBecomesOursAndPlainWithoutLoss) {
  const ScratchDir scratch;
  int count = 0;
  for (const auto& entry : fs::directory_iterator(source_path("tests/quant"))) {
    const std::string model = entry.path().string();
    SCOPED_TRACE(model);
    const std::string ours = scratch.file("ours" + std::to_string(count));
    const Output made = convert(model, "quench", ours);
    ASSERT_EQ(made.status, 0) << made.err;
    EXPECT_EQ(logits_of(scratch, ours), logits_of(scratch, model));
    const std::string plain = scratch.file("plain" + std::to_string(count));
    const Output unpacked = convert(model, "plain", plain, {"--type", "f32"});
    ASSERT_EQ(unpacked.status, 0) << unpacked.err;
    EXPECT_EQ(logits_of(scratch, plain), logits_of(scratch, model, {"--format", "f32"}));
    EXPECT_FALSE(read_json_file(plain + "/config.json")->contains("quantization_config"));
    ++count;
  }
  EXPECT_GE(count, 20);
}

TEST(CliConvert, CodesMoveBetweenLayouts) {
  const ScratchDir scratch;
  const std::string gptq = scratch.file("gptq");
  const Output made = quench({"quantize", "demo", "--format", "int4_g128", "--layout", "gptq",
                              "--algorithm", "rtn", "-o", gptq});
  ASSERT_EQ(made.status, 0) << made.err;
  const std::string expected = logits_of(scratch, gptq);
  std::string from = gptq;
  for (const char* layout : {"awq", "gptq_v2", "compressed-tensors", "quench"}) {
    const std::string to = scratch.file(layout);
    const Output output = convert(from, layout, to);
    ASSERT_EQ(output.status, 0) << output.err;
    EXPECT_EQ(logits_of(scratch, to), expected) << layout;
    // Symmetric codes have become codes with zeros, which only the first has no place for.
    if (layout != std::string("awq")) continue;
    EXPECT_NE(output.out.find("int4_g128_zp"), std::string::npos) << output.out;
    from = to;
  }
}

TEST(CliConvert, AGgufFileBecomesADirectoryWithItsTokenizer) {
  const ScratchDir scratch;
  const std::string gguf = scratch.file("demo.gguf");
  ASSERT_EQ(quench({"convert", "demo", "--to", "gguf", "-o", gguf}).status, 0);
  const std::string dir = scratch.file("demo");
  const Output made = convert(gguf, "plain", dir);
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(logits_of(scratch, dir), logits_of(scratch, "demo"));
  const std::string text = "Hello, 你好! 3.14 <|im_end|>\n\n  x";
  EXPECT_EQ(quench({"tokenize", dir, text, "--special", "--json"}).out,
            quench({"tokenize", "demo", text, "--special", "--json"}).out);
  const std::vector<std::string> answer = {"--greedy", "--max-new-tokens", "8", "--prompt",
                                           "Hello"};
  std::vector<std::string> run = {"run", dir};
  run.insert(run.end(), answer.begin(), answer.end());
  const Output said = quench(run);
  ASSERT_EQ(said.status, 0) << said.err;
  run[1] = "demo";
  EXPECT_EQ(said.out, quench(run).out);
  // A token that no JSON can hold.
  std::string bytes = *read_file(gguf);
  const size_t token = bytes.find(std::string("\x0a\0\0\0\0\0\0\0<|im_end|>", 18));
  ASSERT_NE(token, std::string::npos);
  bytes[token + 8] = '\xff';
  scratch.write("broken.gguf", bytes);
  expect_error(convert(scratch.file("broken.gguf"), "plain", scratch.file("broken")),
               {"broken.gguf", "token 7652", "UTF-8"});
  EXPECT_FALSE(fs::exists(scratch.file("broken.partial")));
  // A type with a twin: the blocks of layers keep their numbers.
  const std::string q4 = scratch.file("q4.gguf");
  ASSERT_EQ(quench({"convert", "demo", "--to", "gguf", "--type", "q4_0", "-o", q4}).status, 0);
  const Output moved = convert(q4, "gptq", scratch.file("q4"));
  ASSERT_EQ(moved.status, 0) << moved.err;
  EXPECT_NE(moved.out.find("int4_g32"), std::string::npos) << moved.out;
  EXPECT_NE(moved.out.find("0.00e+00"), std::string::npos) << moved.out;
  EXPECT_NE(moved.out.find("embedding: bf16 (gptq does not hold it)"), std::string::npos)
      << moved.out;
}

// Groups of 128 are four blocks with the same scale.
TEST(CliConvert, GroupsOfOtherLayoutsKeepTheirNumbersInGguf) {
  const ScratchDir scratch;
  const std::string source = scratch.file("gptq");
  ASSERT_EQ(quench({"quantize", "demo", "--format", "int4_g128", "--layout", "gptq", "-o", source})
                .status,
            0);
  const Output moved = convert(source, "gguf", scratch.file("model.gguf"));
  ASSERT_EQ(moved.status, 0) << moved.err;
  EXPECT_NE(moved.out.find("q4_0              35        35 "), std::string::npos) << moved.out;
}

TEST(CliConvert, WhatCannotBeIsSaid) {
  const ScratchDir scratch;
  expect_error(convert("demo", "gptq", scratch.file("out")), {"no matrix", "gptq", "--type"});
  expect_error(convert(source_path("tests/gguf/qwen1.gguf"), "plain", scratch.file("out")),
               {"qwen.tiktoken"});
  expect_error(convert("demo", "gguf", scratch.file("x.gguf"), {"--resume"}), {"--resume"});
  EXPECT_FALSE(fs::exists(scratch.file("out")));
}

}  // namespace
}  // namespace quench
