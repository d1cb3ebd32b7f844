// quench quantize and quench eval as a stranger uses them.
#include <csignal>
#include <filesystem>
#include <map>
#include <thread>

#include "base/file.h"
#include "base/sha256.h"
#include "cli/cli.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Names and contents of a directory.
std::string digest_of(const std::string& dir) {
  std::vector<std::string> lines;
  for (const auto& entry : fs::directory_iterator(dir)) {
    const std::string bytes = *read_file(entry.path().string());
    lines.push_back(entry.path().filename().string() + " " +
                    sha256_hex(std::as_bytes(std::span(bytes))));
  }
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

TEST(CliQuantize, WritesAModelThatEveryVerbTakes) {
  const ScratchDir scratch;
  const std::string out = scratch.path() + "/demo-int4";
  const Output made = quench({"quantize", "demo", "--format", "int4", "-o", out});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_NE(made.out.find("saved_fraction 0.74"), std::string::npos) << made.out;
  // The same codes as quantizing at load: the same tokens.
  const std::vector<std::string> ask = {"--greedy", "--prompt", "Tell me a story."};
  auto answer = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), ask.begin(), ask.end());
    const Output output = quench(arguments);
    EXPECT_EQ(output.status, 0) << output.err;
    return output.out;
  };
  EXPECT_EQ(answer({"run", out}), answer({"run", "demo", "--format", "int4"}));
  const Output inspected = quench({"inspect", out, "--json"});
  ASSERT_EQ(inspected.status, 0) << inspected.err;
  EXPECT_NE(inspected.out.find("int4_g128"), std::string::npos);
  expect_error(quench({"quantize", out, "--format", "int3", "-o", scratch.path() + "/again"}),
               {"quantized already"});
  expect_error(quench({"quantize", "demo", "--format", "int4", "-o", out}), {"exists already"});
}

TEST(CliQuantize, RefusesWhatItCannotDo) {
  const ScratchDir scratch;
  const std::string out = scratch.path() + "/out";
  expect_error(quench({"quantize", "demo", "-o", out}),
               {"--profile", "--format", "--bits", "--fit"});
  expect_error(quench({"quantize", "demo", "--format", "int9", "-o", out}), {"int9"});
  expect_error(quench({"quantize", "demo", "--format", "int4"}), {"-o DIR"});
  expect_error(quench({"quantize", "demo", "--format", "int4", "--algorithm", "magic", "-o", out}),
               {"magic", "rtn", "gptq"});
  expect_error(quench({"quantize", "demo", "--format", "int4", "--algorithm", "gptq",
                       "--calibration", scratch.path() + "/none.txt", "-o", out}),
               {"none.txt"});
  const Output plan = quench(
      {"quantize", "Qwen2.5-7B", "--random-weights", "--format", "int4", "--dry-run", "--json"});
  ASSERT_EQ(plan.status, 0) << plan.err;
  EXPECT_EQ(parse_json(plan.out, "stdout")->at("source_bytes"), 15231233024);
  EXPECT_FALSE(fs::exists(out));
}

TEST(CliQuantize, BitsAndMemoryAreBudgets) {
  for (const double bits : {2.3, 3.2, 4.6, 7.0}) {
    const Output plan = quench({"quantize", "Qwen2.5-7B", "--random-weights", "--bits",
                                fmt::format("{}", bits), "--dry-run", "--json"});
    ASSERT_EQ(plan.status, 0) << plan.err;
    const double found = parse_json(plan.out, "stdout")->at("bits_per_weight");
    EXPECT_LE(found, bits);
    EXPECT_GT(found, bits - 0.8);  // the largest role may not fit between two rungs
  }
  const Output fit =
      quench({"quantize", "Qwen2.5-7B", "--random-weights", "--fit", "4GB", "--dry-run", "--json"});
  ASSERT_EQ(fit.status, 0) << fit.err;
  EXPECT_LT(parse_json(fit.out, "stdout")->at("bytes").get<double>(), 4e9);
  expect_error(quench({"quantize", "Qwen2.5-7B", "--random-weights", "--fit", "1GB", "--dry-run"}),
               {"GB", "at least"});
  // Scales of rows and what falls back count: the budget holds for what is written.
  for (const double bits : {2.1, 3.1, 4.2}) {
    const Output plan =
        quench({"quantize", "demo", "--bits", fmt::format("{}", bits), "--dry-run", "--json"});
    ASSERT_EQ(plan.status, 0) << plan.err;
    EXPECT_LE(parse_json(plan.out, "stdout")->at("bits_per_weight").get<double>(), bits);
  }
  expect_error(quench({"quantize", "demo", "--bits", "2.04", "--dry-run"}), {"2.040", "2.070"});
  // Of a layout that leaves the embedding alone as well.
  expect_error(quench({"quantize", "demo", "--bits", "4.4", "--layout", "gptq", "--dry-run"}),
               {"4.400", "cannot be had", "8.0"});
  expect_error(quench({"quantize", "demo", "--bits", "1.5", "--dry-run"}), {"1.500", "at least"});
  expect_error(quench({"quantize", "demo", "--bits", "3", "--format", "int4", "--dry-run"}),
               {"Give one of"});
}

// Experts of a layer run together, so their inputs are turned together.
TEST(CliQuantize, RotatedExpertsRun) {
  const ScratchDir scratch;
  const std::string model = copy_tiny_model(
      scratch, "qwen3_moe", R"({"hidden_size": 64, "moe_intermediate_size": 96, "head_dim": 32})");
  const std::string out = scratch.path() + "/rotated";
  const Output made = quench(
      {"quantize", model, "--random-weights", "--format", "int4_g32", "--rotate", "-o", out});
  ASSERT_EQ(made.status, 0) << made.err;
  const std::string ids = "1,2,3,4,5";
  for (const std::vector<std::string>& from :
       {std::vector<std::string>{out}, {model, "--random-weights"}}) {
    std::vector<std::string> command = {"logits"};
    command.insert(command.end(), from.begin(), from.end());
    command.insert(command.end(), {"--ids", ids, "--out", scratch.path() + "/logits.npy"});
    const Output output = quench(command);
    EXPECT_EQ(output.status, 0) << output.err;
  }
}

TEST(CliQuantize, NotANumberIsNamed) {
  const ScratchDir scratch;
  const std::string model = copy_tiny_model(scratch);
  const std::string path = model + "/model.safetensors";
  std::string bytes = *read_file(path);
  for (size_t i = bytes.size() / 2; i < bytes.size() / 2 + 64; ++i) bytes[i] = '\xff';
  ASSERT_TRUE(write_file_atomic(path, bytes));
  const std::string out = scratch.path() + "/out";
  const Output failed = quench({"quantize", model, "--format", "int8", "-o", out});
  EXPECT_EQ(failed.status, 1);
  for (const char* word : {"quench: Tensor", "nan at row", "damaged"})
    EXPECT_NE(failed.err.find(word), std::string::npos) << failed.err;
  EXPECT_FALSE(fs::exists(out));
}

// Killed at any moment and resumed: the same bytes as in one go.
TEST(CliQuantize, AKilledJobIsResumed) {
  const ScratchDir scratch;
  const std::string whole = scratch.path() + "/whole";
  const std::vector<std::string> job = {"quantize", "demo",      "--format", "int3", "--algorithm",
                                        "search",   "--threads", "1",        "-o"};
  auto with = [&](const std::string& out, bool resume) {
    std::vector<std::string> arguments = job;
    arguments.push_back(out);
    if (resume) arguments.emplace_back("--resume");
    return arguments;
  };
  ASSERT_EQ(quench(with(whole, false)).status, 0);
  const std::string wanted = digest_of(whole);
  for (const int delay_ms : {20, 150, 400}) {
    const std::string out = fmt::format("{}/killed{}", scratch.path(), delay_ms);
    const Child child = start_quench(with(out, false), false);
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    ::kill(child.pid, SIGKILL);
    wait_for(child);
    if (fs::exists(out + ".partial")) {
      expect_error(quench(with(out, false)), {"--resume"});
    }
    if (!fs::exists(out)) {
      const Output resumed = quench(with(out, true));
      ASSERT_EQ(resumed.status, 0) << resumed.err;
    }
    EXPECT_EQ(digest_of(out), wanted) << delay_ms;
    EXPECT_FALSE(fs::exists(out + ".partial"));
  }
}

TEST(CliQuantize, ErrorFeedbackLosesLess) {
  const ScratchDir scratch;
  std::vector<std::string> eval = {
      "eval", "--against",        "demo",   "--max-tokens",        "600", "--items",
      "0",    "--no-noise-floor", "--json", "--no-reference-cache"};
  for (const char* algorithm : {"rtn", "gptq"}) {
    const std::string out = scratch.path() + "/" + algorithm;
    const Output made = quench({"quantize", "demo", "--format", "int3", "--algorithm", algorithm,
                                "--calibration-tokens", "2000", "-o", out});
    ASSERT_EQ(made.status, 0) << made.err;
    eval.push_back(out);
  }
  const Output judged = quench(eval);
  ASSERT_EQ(judged.status, 0) << judged.err;
  const Json json = *parse_json(judged.out, "stdout");
  const double rtn = json[0]["kld"]["mean"];
  const double gptq = json[1]["kld"]["mean"];
  EXPECT_LT(gptq, 0.8 * rtn);
}

// An embedding that is only looked up has no input to learn from; the head beside it has.
TEST(CliQuantize, AnUntiedHeadIsFedBackAndItsEmbeddingRounded) {
  const ScratchDir scratch;
  const std::string model =
      copy_tiny_model(scratch, "qwen2", R"({"vocab_size": 1009, "tie_word_embeddings": false})");
  fs::copy_file(source_path("tests/text/small_tokenizer/tokenizer.json"),
                model + "/tokenizer.json");
  std::map<std::string, double> errors[2];
  for (const bool feeds_back : {false, true}) {
    const Output made = quench({"quantize", model, "--random-weights", "--format", "int4_g32",
                                "--algorithm", feeds_back ? "gptq" : "rtn", "-o",
                                scratch.file(feeds_back ? "gptq" : "rtn"), "--json"});
    ASSERT_EQ(made.status, 0) << made.err;
    const Json json = *parse_json(made.out, "stdout");
    for (const Json& role : json.at("roles")) {
      if (!role.at("relative_error").is_null())
        errors[feeds_back ? 1 : 0][role.at("role")] = role.at("relative_error");
    }
  }
  EXPECT_EQ(errors[1].at("embedding"), errors[0].at("embedding"));
  EXPECT_NE(errors[1].at("head"), errors[0].at("head"));
}

TEST(CliEval, OneModelAlone) {
  const Output output = quench({"eval", "demo", "--max-tokens", "300", "--items", "4"});
  ASSERT_EQ(output.status, 0) << output.err;
  EXPECT_NE(output.out.find("PPL"), std::string::npos);
  EXPECT_EQ(output.out.find("KLD"), std::string::npos);
  const Output halves = quench(
      {"eval", "demo", "--convention", "halves", "--context", "64", "--items", "0", "--csv"});
  ASSERT_EQ(halves.status, 0) << halves.err;
  EXPECT_NE(halves.out.find("model,domain,scored,ppl"), std::string::npos) << halves.out;
}

// What it will take grows with what it does, and is the same for any depth but in time.
TEST(CliQuantize, ADryRunSaysWhatItWillTake) {
  const auto estimate = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"quantize", "Qwen2.5-7B", "--random-weights", "--dry-run",
                                 "--json", "--format", "int4_g128"});
    const Output output = quench(words);
    EXPECT_EQ(output.status, 0) << output.err;
    return Json::parse(output.out)["estimate"];
  };
  const Json free = estimate({"--layers", "4"});
  EXPECT_EQ(free["calibration_tokens"], 0);
  EXPECT_GT(free["seconds"], 0.0);
  const Json calibrated = estimate({"--layers", "4", "--algorithm", "gptq"});
  EXPECT_GT(calibrated["calibration_tokens"], 1000);
  EXPECT_GT(calibrated["seconds"], free["seconds"]);
  // The moments of 18944 columns, half a square, twice.
  EXPECT_GT(calibrated["peak_bytes"], free["peak_bytes"].get<int64_t>() + 1'400'000'000);
  const Json deep = estimate({"--algorithm", "gptq"});
  EXPECT_EQ(deep["peak_bytes"], calibrated["peak_bytes"]);
  const Json fewer = estimate({"--algorithm", "gptq", "--calibration-tokens", "100"});
  EXPECT_LT(fewer["peak_bytes"], deep["peak_bytes"]);
  const Output text = quench({"quantize", "demo", "--format", "int4", "--dry-run"});
  EXPECT_NE(text.out.find("of memory at most and about"), std::string::npos) << text.out;
}

// A recipe for another depth would be a recipe for nothing in particular.
TEST(CliQuantize, ARecipeNamesLayersOfTheModel) {
  const ScratchDir scratch;
  scratch.write("deep.json",
                R"({"name": "deep", "default": "int8", "layers": {"99": {"down": "int4_g128"}}})");
  for (const std::vector<std::string>& verb :
       {std::vector<std::string>{"quantize", "demo", "-o", scratch.file("out")},
        std::vector<std::string>{"run", "demo", "--prompt", "x"}}) {
    std::vector<std::string> words = verb;
    words.insert(words.end(), {"--recipe", scratch.file("deep.json")});
    expect_error(quench(words), {"\"deep\"", "layer 99", "0 to"});
  }
}

// The libraries see a linear module in a head that is tied to the embedding, and would quantize it.
TEST(CliQuantize, OtherLayoutsLeaveATiedHeadAlone) {
  const ScratchDir scratch;
  const std::pair<std::string, std::string> layouts[] = {{"bnb_nf4", "nf4_g64_f32"},
                                                         {"bnb_int8", "int8"},
                                                         {"awq", "int4_g64_zp"},
                                                         {"compressed-tensors", "int4_g64"},
                                                         {"fp8", "fp8_b128"}};
  for (const auto& [layout, format] : layouts) {
    const Output made = quench({"quantize", "demo", "--format", format, "--layout", layout, "-o",
                                scratch.file(layout), "--json"});
    ASSERT_EQ(made.status, 0) << made.err;
    const Json config = Json::parse(*read_file(scratch.file(layout) + "/config.json"));
    bool named = false;
    for (const char* key : {"llm_int8_skip_modules", "modules_to_not_convert", "ignore"}) {
      const Json list = config["quantization_config"].value(key, Json::array());
      named = named || std::find(list.begin(), list.end(), "lm_head") != list.end();
    }
    EXPECT_TRUE(named) << layout;
  }
}

// What bitsandbytes calls double quantization: the codes stay, the scales take 8 bits and a little.
TEST(CliQuantize, DoubleQuantizationCostsWhatTheReportSays) {
  const ScratchDir scratch;
  std::map<std::string, Json> made;
  for (const std::string layout : {"bnb_nf4", "bnb_nf4_double"}) {
    const Output output = quench({"quantize", "demo", "--format", "nf4_g64_f32", "--layout", layout,
                                  "-o", scratch.file(layout), "--json"});
    ASSERT_EQ(output.status, 0) << output.err;
    made[layout] = Json::parse(output.out);
  }
  for (size_t i = 0; i < made["bnb_nf4"]["roles"].size(); ++i) {
    const Json& single = made["bnb_nf4"]["roles"][i];
    const Json& twice = made["bnb_nf4_double"]["roles"][i];
    if (single["format"] != "nf4_g64_f32") continue;
    const double before = single["relative_error"];
    const double after = twice["relative_error"];
    EXPECT_NE(after, before);
    EXPECT_NEAR(after, before, 0.01 * before) << single["role"];
  }
  // 32 bits of scale for every 64 weights of the layers become 8, and 32 for every 256 of those.
  const auto bytes = [&](const std::string& layout) {
    return static_cast<double>(fs::file_size(scratch.file(layout) + "/model.safetensors"));
  };
  EXPECT_LT(bytes("bnb_nf4_double"), 0.98 * bytes("bnb_nf4"));
  // The same loss, from what was written already.
  const Output converted = quench({"convert", scratch.file("bnb_nf4"), "--to", "bnb_nf4_double",
                                   "-o", scratch.file("converted")});
  ASSERT_EQ(converted.status, 0) << converted.err;
  EXPECT_NE(converted.out.find("nf4_g64_f32        35         0"), std::string::npos)
      << converted.out;
}

}  // namespace
}  // namespace quench
