// The verbs at work: run, tokenize, logits, inspect.
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <map>

#include "base/bytes.h"
#include "cli/cli.h"
#include "io/npy.h"
#include "io/safetensors.h"

namespace quench {
namespace {

class CliRun : public testing::Test {
 protected:
  Output run(std::vector<std::string> more, std::string_view input = {}) const {
    std::vector<std::string> arguments = {"run", model_, "--random-weights"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return quench(arguments, input);
  }
  Json run_json(std::vector<std::string> more) const {
    more.insert(more.end(), {"--raw", "--json", "--prompt", "hello"});
    if (std::none_of(more.begin(), more.end(),
                     [](const auto& flag) { return flag.starts_with("--max_new_tokens"); }))
      more.push_back("--max_new_tokens=12");
    const Output output = run(more);
    EXPECT_EQ(output.status, 0) << output.err;
    return Json::parse(output.out);
  }

  const ScratchDir scratch_;
  const std::string model_ = tiny_model_with_tokenizer(scratch_);
};

TEST_F(CliRun, SameIdsAgainAndWithAnyNumberOfThreads) {
  const Json first = run_json({"--greedy", "--threads=1"});
  EXPECT_EQ(first.at("ids").size(), first.at("generated_tokens").get<size_t>());
  EXPECT_EQ(run_json({"--greedy", "--threads=1"}).at("ids"), first.at("ids"));
  EXPECT_EQ(run_json({"--greedy", "--threads=2"}).at("ids"), first.at("ids"));
}

TEST_F(CliRun, SpeculationChangesNoToken) {
  // The bias makes a row of one token, which is easy to guess.
  for (const char* bias : {"--logit_bias=1:100", "--logit_bias=1:0"}) {
    const Json with = run_json({"--temperature=0.5", "--seed=3", bias, "--max_new_tokens=60"});
    const Json without = run_json(
        {"--temperature=0.5", "--seed=3", bias, "--max_new_tokens=60", "--no-speculation"});
    EXPECT_EQ(with.at("ids"), without.at("ids"));
    EXPECT_EQ(without.at("drafted_tokens"), 0);
    EXPECT_GE(with.at("drafted_tokens"), with.at("accepted_tokens"));
    if (std::string(bias).ends_with(":100")) {
      EXPECT_GT(with.at("accepted_tokens"), 0);
    }
  }
}

TEST_F(CliRun, TheSeedDecides) {
  const Json first = run_json({"--temperature=2", "--seed=7"});
  EXPECT_EQ(run_json({"--temperature=2", "--seed=7"}).at("ids"), first.at("ids"));
  EXPECT_NE(run_json({"--temperature=2", "--seed=8"}).at("ids"), first.at("ids"));
}

TEST_F(CliRun, APromptOnStdinIsTheSameAsOneInTheFlag) {
  const Output flag = run({"--raw", "--greedy", "--max_new_tokens=4", "--prompt", "hello"});
  const Output piped = run({"--raw", "--greedy", "--max_new_tokens=4"}, "hello");
  EXPECT_EQ(flag.status, 0) << flag.err;
  EXPECT_EQ(piped.out, flag.out);
  EXPECT_NE(flag.err.find("4 tokens"), std::string::npos) << flag.err;
  EXPECT_EQ((flag.out + flag.err).find('\x1b'), std::string::npos);
}

TEST_F(CliRun, StopEndsTheAnswerBeforeItsText) {
  // The bias makes token 1 ('"') all but certain: the answer is a row of them.
  const Output output = run({"--raw", "--prompt=hello", "--greedy", "--logit_bias=1:100",
                             "--max_new_tokens=8", "--stop", "\"\"\"", "--json"});
  ASSERT_EQ(output.status, 0) << output.err;
  const Json answer = Json::parse(output.out);
  EXPECT_EQ(answer.at("text"), "");
  EXPECT_EQ(answer.at("finish_reason"), "stop");
  EXPECT_EQ(answer.at("ids"), (std::vector<int>{1, 1, 1}));
}

TEST_F(CliRun, SettingsOutOfRangeAreRefused) {
  const std::map<std::string, std::vector<std::string>> cases = {
      {"--temperature=-1", {"temperature is -1", "0"}},
      {"--temperature=nan", {"temperature is nan"}},
      {"--top_p=2", {"top_p is 2", "between 0 and 1"}},
      {"--top_k=-1", {"top_k is -1"}},
      {"--min_p=1.5", {"min_p is 1.5"}},
      {"--repetition_penalty=0", {"repetition_penalty is 0"}},
      {"--presence_penalty=3", {"presence_penalty is 3", "-2 and 2"}},
      {"--max_new_tokens=0", {"max_new_tokens is 0"}},
      {"--logit_bias=foo", {"ID:BIAS", "\"foo\""}},
      {"--logit_bias=1:1000", {"1000", "between -100 and 100"}},
      {"--logit_bias=1009:1", {"token id 1009", "0 to 1008"}},
  };
  for (const auto& [flag, words] : cases) expect_error(run({"--raw", "--prompt=x", flag}), words);
}

TEST_F(CliRun, PromptsThatDoNotFitAreRefused) {
  expect_error(run({"--raw", "--prompt", ""}), {"prompt is empty"});
  expect_error(run({"--raw", "--max-seq-len=8"}, "1 2 3 4 5 6 7 8 9"),
               {"context of 8", "at most 7", "--max-seq-len"});
}

std::string ids_of(const std::string& model, std::string_view text) {
  return quench({"tokenize", model}, text).out;
}

TEST_F(CliRun, TokenizeGivesTextBackByteForByte) {
  std::string text;
  for (char c = 0; c < 0x7f; ++c) text += c;
  text += "\r\n\u00e9 \u4f60\u597d \U0001f98a  \t\n";
  EXPECT_EQ(quench({"tokenize", model_, "--decode"}, ids_of(model_, text)).out, text);
  const Output empty = quench({"tokenize", model_, "--json"}, "");
  EXPECT_EQ(empty.out, "{\"ids\":[],\"tokens\":[]}\n");
}

TEST_F(CliRun, TokenizeSaysThatBrokenUtf8WasReplaced) {
  const Output broken = quench({"tokenize", model_},
                               "a\xff"
                               "b");
  EXPECT_EQ(broken.status, 0);
  EXPECT_NE(broken.err.find("not UTF-8"), std::string::npos) << broken.err;
  EXPECT_EQ(broken.out, ids_of(model_,
                               "a\ufffd"
                               "b"));
  EXPECT_EQ(quench({"tokenize", model_}, "a\ufffd").err, "");
}

TEST_F(CliRun, TokenizeJsonHasATextForEveryId) {
  const Json plain = Json::parse(quench({"tokenize", model_, "a<|im_end|>", "--json"}).out);
  EXPECT_EQ(plain.at("ids").size(), plain.at("tokens").size());
  const Json special =
      Json::parse(quench({"tokenize", model_, "a<|im_end|>", "--json", "--special"}).out);
  EXPECT_EQ(special.at("ids").back(), 1002);
  EXPECT_EQ(special.at("tokens").back(), "<|im_end|>");
  EXPECT_GT(plain.at("ids").size(), special.at("ids").size());
}

TEST_F(CliRun, DecodeRefusesWhatIsNoId) {
  expect_error(quench({"tokenize", model_, "1 x 2", "--decode"}), {"--decode", "\"x\""});
  expect_error(quench({"tokenize", model_, "-3", "--decode"}), {"\"-3\""});
  expect_error(quench({"tokenize", model_, "99999999999999", "--decode"}), {"99999999999999"});
  expect_error(quench({"tokenize", model_, "1009", "--decode"}), {"1009", "0 to 1008"});
}

TEST(CliLogits, AreThoseOfTheGoldenFile) {
  const ScratchDir scratch;
  const SafetensorsFile golden =
      SafetensorsFile::open(source_path("tests/golden/qwen2/golden.safetensors")).value();
  const std::span<const std::byte> id_bytes = golden.find("seq0.ids")->data;
  std::string ids;
  for (size_t i = 0; i < id_bytes.size(); i += 8) {
    ids += fmt::format("{}{}", i == 0 ? "" : ",", load<int64_t>(id_bytes.data() + i));
  }
  const std::string path = scratch.file("logits.npy");
  const Output output = quench({"logits", "--ids", ids, source_path("tests/tiny_model/qwen2"),
                                "--isa", "ref", "--kv-format", "f32", "--out", path});
  ASSERT_EQ(output.status, 0) << output.err;
  const NpyMatrix logits = read_npy(path).value();
  const std::span<const std::byte> want = golden.find("seq0.logits")->data;
  EXPECT_EQ(logits.num_rows, static_cast<int64_t>(id_bytes.size() / 8));
  EXPECT_EQ(logits.num_columns, 83);
  ASSERT_EQ(logits.values.size(), want.size() / 4);
  for (size_t i = 0; i < logits.values.size(); ++i) {
    ASSERT_NEAR(logits.values[i], load<float>(want.data() + 4 * i), 1e-4) << i;
  }
  EXPECT_EQ(scratch.num_files(), 1);
}

TEST(CliLogits, BadIdsAndPlacesLeaveNoFile) {
  const ScratchDir scratch;
  const std::string model = source_path("tests/tiny_model/qwen2");
  auto logits = [&](const std::string& ids, const std::string& out) {
    return quench({"logits", model, "--ids=" + ids, "--out", out});
  };
  expect_error(logits("1,83", scratch.file("x.npy")), {"83", "83 rows"});
  expect_error(logits("-1", scratch.file("x.npy")), {"-1"});
  expect_error(logits("1", scratch.file("no/x.npy")), {"no directory", scratch.file("no")});
  expect_error(logits("1", scratch.path()), {scratch.path(), "is a directory"});
  expect_error(logits("1", "/dev/full"), {"/dev/full", "not a regular file"});
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full")) << "it was replaced";
  EXPECT_EQ(scratch.num_files(), 0);
}

// A limit on the size of files stands for a disk that runs full.
TEST(CliLogits, AFullDiskLeavesNoFile) {
  const ScratchDir scratch;
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {1000, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // a write then fails instead
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Output output = quench({"logits", source_path("tests/tiny_model/qwen2"), "--ids",
                                "1,2,3,4,5,6,7,8", "--out", scratch.file("x.npy")});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  expect_error(output, {scratch.file("x.npy"), "nothing of this file was left behind"});
  EXPECT_EQ(scratch.num_files(), 0);
}

TEST(CliInspect, NumbersAddUp) {
  for (const char* name : {"qwen1", "qwen2_moe", "qwen2_tied", "qwen3_sharded"}) {
    const Output output =
        quench({"inspect", source_path(std::string("tests/tiny_model/") + name), "--json"});
    ASSERT_EQ(output.status, 0) << output.err;
    const Json model = Json::parse(output.out);
    int64_t bytes = 0;
    for (const Json& role : model.at("roles")) bytes += role.at("bytes").get<int64_t>();
    EXPECT_EQ(model.at("weights_bytes"), bytes) << name;
    int64_t total = 0;
    for (const char* part : {"weights_bytes", "vectors_bytes", "kv_bytes", "workspace_bytes"}) {
      total += model.at(part).get<int64_t>();
    }
    EXPECT_EQ(model.at("total_bytes"), total) << name;
  }
}

// 7.61e9 weights of matrices, 4 bits each and an f16 scale per 128 of them.
TEST(CliInspect, AnOfficialShapeNeedsNoFiles) {
  const Output output =
      quench({"inspect", "Qwen2.5-7B", "--random-weights", "--format", "int4", "--json"});
  ASSERT_EQ(output.status, 0) << output.err;
  const Json model = Json::parse(output.out);
  EXPECT_EQ(model.at("parameters"), 7'615'616'512);
  const int64_t weights =
      2LL * 152064 * 3584 + 28LL * (2LL * 3584 * 3584 + 2LL * 512 * 3584 + 3LL * 18944 * 3584);
  EXPECT_EQ(model.at("weights_bytes"), weights / 2 + weights / 128 * 2);
  EXPECT_EQ(model.at("kv_bytes_per_token"), 28 * 2 * 4 * 128 * 2);  // bf16
}

TEST(CliDemo, AnswersFromItsOwnFiles) {
  ASSERT_TRUE(has_demo()) << "models/demo ships with its weights";
  const std::vector<std::string> arguments = {"run",    demo_dir(), "--prompt",          "Hello",
                                              "--json", "--greedy", "--max_new_tokens=8"};
  const Output first = quench(arguments);
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(Json::parse(quench(arguments).out).at("ids"), Json::parse(first.out).at("ids"));
}

TEST(CliInspect, MemoryFlagsShowInThePlan) {
  const auto inspect = [](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"inspect", source_path("tests/tiny_model/qwen2"), "--json"});
    const Output output = quench(flags);
    EXPECT_EQ(output.status, 0) << output.err;
    return Json::parse(output.out);
  };
  const Json one = inspect({"--max-seq-len=100"});
  EXPECT_EQ(one.at("kv_tokens"), 128);
  EXPECT_EQ(one.at("kv_bytes"), 128 * one.at("kv_bytes_per_token").get<int64_t>());
  const Json four = inspect({"--max-seq-len=100", "--max-batch-size=4"});
  EXPECT_EQ(four.at("max_batch_size"), 4);
  EXPECT_EQ(four.at("kv_tokens"), 512);
  EXPECT_EQ(inspect({"--kv-tokens=1000", "--max-batch-size=4"}).at("kv_tokens"), 1024);
  const Json full = inspect({"--max-seq-len=100", "--kv-format=f32"});
  EXPECT_EQ(full.at("kv_bytes").get<int64_t>(), 2 * one.at("kv_bytes").get<int64_t>());
}

}  // namespace
}  // namespace quench
