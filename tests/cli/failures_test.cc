// What goes wrong while a model is quantized: each has a sentence or a recorded fall-back, the
// source stays as it was and nothing half-made has the output's name.
#include <sys/resource.h>

#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "cli/cli.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// A copy of the demo model, to be damaged.
std::string copy_demo(const ScratchDir& scratch) {
  const std::string dir = scratch.file("model");
  fs::copy(demo_dir(), dir, fs::copy_options::recursive);
  return dir;
}

std::vector<std::string> quantize(const std::string& model, const std::string& out,
                                  std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {"quantize", model, "--format", "int4", "-o", out};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(CliQuantizeFailure, AMissingOrEmptyCalibrationTextLeavesNothing) {
  const ScratchDir scratch;
  const std::string out = scratch.file("out");
  scratch.write("empty.txt", "");
  scratch.write("blank.txt", "\n\n<|endoftext|>\n \n");
  fs::create_directories(scratch.file("folder"));
  const std::pair<const char*, const char*> cases[] = {{"none.txt", "none.txt"},
                                                       {"empty.txt", "no document"},
                                                       {"blank.txt", "no document"},
                                                       {"folder", "no .txt"}};
  for (const auto& [file, word] : cases) {
    expect_error(
        quench(quantize("demo", out, {"--algorithm", "gptq", "--calibration", scratch.file(file)})),
        {file, word});
    EXPECT_FALSE(fs::exists(out));
    EXPECT_FALSE(fs::exists(out + ".partial"));
  }
}

TEST(CliQuantizeFailure, ShardsThatAreShortOrNoFiles) {
  const ScratchDir scratch;
  const std::string model = copy_tiny_model(scratch, "qwen3_sharded");
  const std::string shard = model + "/model-00002-of-00002.safetensors";
  const std::string bytes = *read_file(shard);
  fs::resize_file(shard, bytes.size() - 100);
  expect_error(quench(quantize(model, scratch.file("out"))), {"model-00002-of-00002.safetensors"});
  fs::resize_file(shard, 5);
  expect_error(quench(quantize(model, scratch.file("out"))), {"model-00002-of-00002.safetensors"});
  fs::remove(shard);
  expect_error(quench(quantize(model, scratch.file("out"))), {"model-00002-of-00002.safetensors"});
  fs::create_directory(shard);
  expect_error(quench(quantize(model, scratch.file("out"))), {"model-00002-of-00002.safetensors"});
  EXPECT_FALSE(fs::exists(scratch.file("out")));
}

// Inputs so large that their squares overflow: nothing can be factored. The matrices are rounded,
// and the report says which and why.
TEST(CliQuantizeFailure, WhatCannotBeFactoredIsRounded) {
  const ScratchDir scratch;
  const std::string model = copy_demo(scratch);
  const std::string path = model + "/model.safetensors";
  std::string bytes = *read_file(path);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const Json header = *parse_json(bytes.substr(8, header_bytes), "header");
  const Json& offsets = header.at("model.layers.4.input_layernorm.weight").at("data_offsets");
  for (size_t at = offsets[0]; at < offsets[1]; at += 2) {
    bytes[8 + header_bytes + at] = 0;
    bytes[8 + header_bytes + at + 1] = 0x7e;  // bf16 0x7e00: 4e37
  }
  ASSERT_TRUE(write_file_atomic(path, bytes));
  const Output made =
      quench(quantize(model, scratch.file("out"),
                      {"--algorithm", "gptq", "--calibration-tokens", "100", "--json"}));
  ASSERT_EQ(made.status, 0) << made.err;
  const Json fallbacks = parse_json(made.out, "stdout")->at("fallbacks");
  ASSERT_GE(fallbacks.size(), 3u);
  EXPECT_EQ(fallbacks[0]["tensor"], "model.layers.4.self_attn.q_proj.weight");
  EXPECT_NE(fallbacks[0]["reason"].get<std::string>().find("not positive definite"),
            std::string::npos);
}

// A disk that is full, by a limit of the file size.
TEST(CliQuantizeFailure, AFullDiskKeepsWhatIsDone) {
  const ScratchDir scratch;
  const std::string out = scratch.file("out");
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {1 << 20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Output full = quench(quantize("demo", out));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  expect_error(full, {"safetensors", "make room", "--resume"});
  EXPECT_FALSE(fs::exists(out));
  ASSERT_EQ(quench(quantize("demo", out, {"--resume"})).status, 0);
  ASSERT_EQ(quench(quantize("demo", scratch.file("whole"))).status, 0);
  EXPECT_EQ(*read_file(out + "/model.safetensors"),
            *read_file(scratch.file("whole") + "/model.safetensors"));
}

}  // namespace
}  // namespace quench
