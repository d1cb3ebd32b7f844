#include "models/family.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "models/rope.h"
#include "test_paths.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

Json shapes() { return *read_json_file(source_path("models/shapes.json")); }

int64_t count_parameters(const Family& family, const ModelConfig& config) {
  int64_t total = 0;
  family.tensors(config, [&](const TensorSpec& spec) { total += spec.rows * spec.cols; });
  return total;
}

// The published totals, in units of 10 million: the inventory of every shape adds up to them.
TEST(Family, InventoriesAddUpToThePublishedSizes) {
  const std::map<std::string, double> published = {
      {"Qwen-1.8B", 1.84},        {"Qwen-7B", 7.72},        {"Qwen-14B", 14.17},
      {"Qwen-72B", 72.29},        {"Qwen1.5-0.5B", 0.46},   {"Qwen1.5-4B", 3.95},
      {"Qwen1.5-32B", 32.51},     {"Qwen1.5-110B", 111.21}, {"Qwen1.5-MoE-A2.7B", 14.32},
      {"Qwen2-57B-A14B", 57.41},  {"Qwen2.5-0.5B", 0.49},   {"Qwen2.5-1.5B", 1.54},
      {"Qwen2.5-3B", 3.09},       {"Qwen2.5-7B", 7.62},     {"Qwen2.5-14B", 14.77},
      {"Qwen2.5-32B", 32.76},     {"Qwen2.5-72B", 72.71},   {"Qwen3-0.6B", 0.60},
      {"Qwen3-1.7B", 1.72},       {"Qwen3-4B", 4.02},       {"Qwen3-8B", 8.19},
      {"Qwen3-14B", 14.77},       {"Qwen3-32B", 32.76},     {"Qwen3-30B-A3B", 30.53},
      {"Qwen3-235B-A22B", 235.09}};
  const Json table = shapes();
  for (const auto& [name, billions] : published) {
    const Json& json = table.at("models").at(name);
    const auto family = find_family(json);
    ASSERT_TRUE(family) << name << ": " << family.error().message;
    const auto config = (*family)->parse(json);
    ASSERT_TRUE(config) << name << ": " << config.error().message;
    const double counted = static_cast<double>(count_parameters(**family, *config)) / 1e9;
    EXPECT_NEAR(counted, billions, 0.0051) << name;
  }
}

TEST(Family, TheTableOfShapesParsesWhole) {
  const Json table = shapes();
  for (const auto& [name, json] : table.at("models").items()) {
    const auto family = find_family(json);
    ASSERT_TRUE(family) << name;
    EXPECT_TRUE((*family)->parse(json)) << name;
  }
}

std::string data_dir() {
  if (const char* env = std::getenv("QUENCH_TEST_DATA"); env != nullptr) return env;
  return source_path("../shared/data");
}

// Official config files: each is parsed, or refused because its architecture is not one of ours.
TEST(Family, OfficialConfigsParse) {
  const std::string root = data_dir() + "/configs/Qwen";
  if (!fs::exists(root)) GTEST_SKIP() << "no official configs at " << root;
  int parsed = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().filename() != "config.json") continue;
    const Json json = *read_json_file(entry.path().string());
    const auto family = find_family(json);
    if (!family) {
      EXPECT_EQ(family.error().code, ErrorCode::kUnsupported) << entry.path();
      continue;
    }
    const auto config = (*family)->parse(json);
    EXPECT_TRUE(config) << entry.path() << ": " << config.error().message;
    for (const int64_t window : config->windows) EXPECT_EQ(window, 0) << entry.path();
    ++parsed;
  }
  EXPECT_GE(parsed, 25);
}

// The names of the official Qwen-72B, as its index lists them.
TEST(Family, Qwen1NamesAreTheOfficialOnes) {
  const std::string folder = data_dir() + "/configs/Qwen/Qwen-72B";
  if (!fs::exists(folder)) GTEST_SKIP() << "no official index at " << folder;
  const Json json = *read_json_file(folder + "/config.json");
  const Json index = *read_json_file(folder + "/model.safetensors.index.json");
  std::set<std::string> official;
  for (const auto& [name, file] : index.at("weight_map").items()) {
    if (!name.ends_with("rotary_emb.inv_freq")) official.insert(name);
  }
  std::set<std::string> ours;
  const Family& family = **find_family(json);
  family.tensors(*family.parse(json), [&](const TensorSpec& spec) { ours.insert(spec.name); });
  EXPECT_EQ(ours, official);
}

Json with(Json json, const char* key, Json value) {
  json[key] = std::move(value);
  return json;
}

TEST(Family, BadConfigsAreOneSentence) {
  const Json good = shapes().at("models").at("Qwen2.5-0.5B");
  const Family& family = **find_family(good);
  const std::pair<Json, const char*> cases[] = {
      {with(good, "hidden_size", -3), "\"hidden_size\" must be an integer of at least 1, found -3"},
      {with(good, "hidden_size", "big"), "\"hidden_size\" must be an integer"},
      {with(good, "hidden_size", 1e30), "\"hidden_size\" must be an integer"},
      {with(good, "hidden_size", int64_t{1} << 30), "beyond any known model"},
      {with(good, "vocab_size", nullptr), "\"vocab_size\" is missing"},
      {with(good, "num_key_value_heads", 3), "14 attention heads cannot be shared by 3"},
      {with(good, "hidden_act", "gelu"), "\"hidden_act\" must be \"silu\""},
      {with(good, "rope_scaling", {{"type", "longrope"}}), "\"longrope\" is not known"},
      {with(good, "rope_scaling", "yarn"), "\"rope_scaling\" must be an object"},
      {with(good, "rms_norm_eps", 0), "must be positive"},
      {with(good, "num_hidden_layers", 5000),
       "\"num_hidden_layers\" must be at most 4096, found 5000"},
      {with(good, "tie_word_embeddings", 1), "must be true or false"},
  };
  for (const auto& [json, expected] : cases) {
    const auto config = family.parse(json);
    ASSERT_FALSE(config) << expected;
    EXPECT_NE(config.error().message.find(expected), std::string::npos) << config.error().message;
    EXPECT_TRUE(config.error().message.ends_with('.'));
  }
  for (const Json& architectures :
       {Json("Qwen2ForCausalLM"), Json::array(), Json({1}), Json({"GPT2LMHeadModel"})}) {
    const auto found = find_family(with(good, "architectures", architectures));
    ASSERT_FALSE(found);
    EXPECT_NE(found.error().message.find("Qwen3MoeForCausalLM"), std::string::npos);
  }
}

// alpha = 2^ceil(log2(n / seq) + 1) - 1: table t holds alpha 2^(t+1) - 1.
TEST(Rope, NtkTableFollowsThePromptLength) {
  ModelConfig config;
  config.use_dynamic_ntk = true;
  config.seq_length = 2048;
  config.head_dim = 128;
  for (const int64_t tokens : {1, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 8193, 30000}) {
    const double ratio = static_cast<double>(tokens) / 2048.0;
    const double alpha = std::max(std::exp2(std::ceil(std::log2(ratio) + 1.0)) - 1.0, 1.0);
    EXPECT_EQ(std::exp2(rope_table_for(config, tokens) + 1) - 1.0, alpha) << tokens;
  }
}

TEST(Rope, LognStartsBehindTheTrainedLength) {
  ModelConfig config;
  config.use_logn_attn = true;
  config.seq_length = 2048;
  EXPECT_EQ(logn_scale(config, 2047), 1.0f);  // the 2048th token
  EXPECT_FLOAT_EQ(logn_scale(config, 2048), std::log(2049.0f) / std::log(2048.0f));
  EXPECT_FLOAT_EQ(logn_scale(config, 2048 * 2048 - 1), 2.0f);
}

}  // namespace
}  // namespace quench
