// Model directories with something wrong: each gets one sentence that says what, where and what to
// do.
#include <cstring>
#include <filesystem>
#include <limits>

#include "base/file.h"
#include "cli/cli.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

TEST(CliModel, WhatIsNoModelDirectoryIsSaid) {
  const ScratchDir scratch;
  const std::string missing = scratch.file("missing");
  expect_error(quench({"inspect", missing}), {missing, "no such directory", "config.json"});
  expect_error(quench({"inspect", "Owner/Some-Model"}), {"Owner/Some-Model", "hf download"});
  expect_error(quench({"inspect", "Qwen2.5-7B"}), {"Qwen2.5-7B", "--random-weights"});
  expect_error(quench({"inspect", "NoSuch", "--random-weights"}), {"\"NoSuch\"", "Qwen3-8B"});
  expect_error(quench({"inspect", scratch.path()}), {scratch.path(), "no config.json"});
  scratch.write("file", "x");
  expect_error(quench({"inspect", scratch.file("file")}), {"file", scratch.path()});
}

struct BadConfig {
  const char* merge;
  std::vector<std::string> words;
};

TEST(CliModel, BadConfigsAreRefused) {
  const BadConfig cases[] = {
      {R"({"architectures": ["LlamaForCausalLM"]})", {"LlamaForCausalLM", "Qwen3ForCausalLM"}},
      {R"({"architectures": null})", {"architectures", "Qwen2ForCausalLM"}},
      {R"({"rope_scaling": {"type": "llama3"}})", {"\"llama3\"", "yarn"}},
      {R"({"hidden_size": -1})", {"hidden_size", "-1"}},
      {R"({"hidden_size": "64"})", {"hidden_size", "\"64\""}},
      {R"({"hidden_size": 18446744073709551615})", {"hidden_size", "18446744073709551615"}},
      {R"({"vocab_size": 549755813888})", {"vocab_size", "549755813888"}},
      {R"({"num_hidden_layers": null})", {"num_hidden_layers", "missing"}},
      {R"({"num_attention_heads": 0})", {"num_attention_heads", "found 0"}},
      {R"({"num_key_value_heads": 3})", {"4 attention heads", "3 key/value heads"}},
      {R"({"quantization_config": {"quant_method": "exl3"}})", {"quantized", "exl3", "gptq"}},
      {R"({"num_hidden_layers": 3})", {"missing 12", "model.layers.2"}},
      {R"({"num_hidden_layers": 1})", {"12 not expected", "model.layers.1"}},
      {R"({"intermediate_size": 128})", {"[128, 64]", "[96, 64]", "gate_proj"}},
  };
  const ScratchDir scratch;
  for (const BadConfig& bad : cases) {
    SCOPED_TRACE(bad.merge);
    fs::remove_all(scratch.file("model"));
    const std::string model = copy_tiny_model(scratch, "qwen2", bad.merge);
    std::vector<std::string> words = bad.words;
    words.push_back(model);
    expect_error(quench({"inspect", model}), words);
  }
}

TEST(CliModel, BrokenJsonAndCutWeightsAreNamed) {
  const ScratchDir scratch;
  const std::string model = copy_tiny_model(scratch);
  const std::string weights = model + "/model.safetensors";
  fs::resize_file(weights, fs::file_size(weights) - 10);
  expect_error(quench({"inspect", model}), {weights, "cut off"});
  fs::resize_file(weights, 5);
  expect_error(quench({"inspect", model}), {weights, "5 bytes"});
  scratch.write("model/config.json", "{");
  expect_error(quench({"inspect", model}), {model + "/config.json", "not valid JSON"});
  scratch.write("model/config.json", R"({"a": 1, "a": 2})");
  expect_error(quench({"inspect", model}), {"\"a\" twice"});
}

TEST(CliModel, AbsentWeightsAreFineForInspectOnly) {
  const ScratchDir scratch;
  const std::string model = copy_tiny_model(scratch);
  fs::remove(model + "/model.safetensors");
  const Output inspect = quench({"inspect", model, "--json"});
  EXPECT_EQ(inspect.status, 0) << inspect.err;
  EXPECT_FALSE(Json::parse(inspect.out).at("has_weights").get<bool>());
  const std::vector<std::string> logits = {"logits", model,   "--ids",
                                           "1",      "--out", scratch.file("x.npy")};
  expect_error(quench(logits), {model, "no weights", "model.safetensors"});
  scratch.write("model/pytorch_model.bin", "x");
  expect_error(quench(logits), {model, "pytorch_model.bin", "convert"});
  EXPECT_EQ(scratch.num_files(), 1) << "only the model";
}

TEST(CliModel, NotANumberCannotBeEncoded) {
  const ScratchDir scratch;
  const std::string model = copy_tiny_model(scratch);
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  std::string bytes = read_file(model + "/model.safetensors").value();
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const Json header = Json::parse(bytes.substr(8, header_bytes));
  const size_t begin = 8 + header_bytes + header.at(name).at("data_offsets").at(0).get<size_t>();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + begin, &nan, sizeof(nan));
  scratch.write("model/model.safetensors", bytes);
  expect_error(
      quench({"logits", model, "--format", "int8", "--ids", "1", "--out", scratch.file("x.npy")}),
      {name, "nan", "row 0", "int8"});
  EXPECT_EQ(scratch.num_files(), 1) << "only the model";
}

TEST(CliModel, TokenizersThatAreMissingOrTooLargeAreRefused) {
  const ScratchDir scratch;
  const std::string model = copy_tiny_model(scratch);
  expect_error(quench({"run", model, "--prompt", "x"}), {model, "tokenizer.json", "qwen.tiktoken"});
  expect_error(quench({"tokenize", model, "x"}), {model, "no tokenizer"});
  fs::copy_file(source_path("tests/text/small_tokenizer/tokenizer.json"),
                model + "/tokenizer.json");
  expect_error(quench({"run", model, "--prompt", "x"}), {model, "1008", "83 rows"});
}

TEST(CliModel, AnUnknownChatTemplateIsSaidAndCanBeReplaced) {
  const ScratchDir scratch;
  const std::string model = tiny_model_with_tokenizer(scratch);
  std::vector<std::string> run = {"run",      model, "--random-weights",
                                  "--prompt", "x",   "--max_new_tokens=2"};
  expect_error(quench(run), {model, "no chat template", "--chat-template"});
  scratch.write("model/tokenizer_config.json", R"({"chat_template": "{{ messages }}"})");
  expect_error(quench(run), {model, "none that quench knows", "--chat-template", "qwen2.5"});
  run.insert(run.end(), {"--chat-template", "qwen2.5"});
  EXPECT_EQ(quench(run).status, 0);
}

}  // namespace
}  // namespace quench
