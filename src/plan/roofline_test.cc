#include "plan/roofline.h"

#include <gtest/gtest.h>

#include <cmath>

#include "test_paths.h"

namespace quench {
namespace {

// Round numbers: what follows can be checked by hand.
Ceilings round_ceilings() {
  Ceilings c;
  c.read = {{"L2", 1 << 20, 0, 1, 0, {100.0, 90.0}},
            {"L3", 32 << 20, 0, 1, 0, {50.0, 40.0}},
            {"memory", 0, 0, 1, 0, {20.0, 15.0}}};
  c.f32_gflop_s = {100.0, 90.0};
  c.bf16_gflop_s = {200.0, 180.0};
  c.int8_gop_s = {400.0, 360.0};
  return c;
}

// hidden 256, 2 layers, 4 query and 2 key/value heads of 64, ffn 512, vocabulary 1000.
Json small_config() {
  return {{"architectures", {"Qwen2ForCausalLM"}},
          {"hidden_size", 256},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"intermediate_size", 512},
          {"vocab_size", 1000},
          {"max_position_embeddings", 4096},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", false}};
}

class Roofline : public testing::Test {
 protected:
  void make(const Json& json, KvType kv_type = KvType::kF32) {
    DeviceOptions options;
    options.isa = "ref";
    options.num_threads = 1;
    device_ = *open_device("cpu", options);
    const Family& family = **find_family(json);
    PlanGoal goal;
    goal.kv_type = kv_type;
    plan_ = *make_plan(
        family, *family.parse(json),
        [](const TensorSpec&) -> Stored { return {find_format("bf16")}; }, *device_, goal);
  }
  PassLimit limit(const Pass& pass) const { return pass_limit(plan_, round_ceilings(), pass); }

  std::unique_ptr<Device> device_;
  Plan plan_;
};

// Weights of a layer: q 256x256, k and v 128x256, o 256x256, gate, up, down 512x256.
constexpr int64_t kLayerWeights = 256 * 256 * 2 + 128 * 256 * 2 + 3 * 512 * 256;
constexpr int64_t kHeadWeights = 1000 * 256;

TEST_F(Roofline, DecodeReadsEveryWeightOnceAndTheCache) {
  make(small_config());
  const PassLimit one = limit({1, 100, 1, 1});
  const int64_t weights = (2 * kLayerWeights + kHeadWeights + 256) * 2;  // and an embedding row
  const int64_t cache = 2 * 100 * (2 * 128 * 4);  // layers, tokens, key and value of 128 f32
  EXPECT_EQ(one.read_bytes, weights + cache);
  // 101 keys: the token sees itself, too. 4 heads of 64.
  const double ops = 2.0 * (2 * kLayerWeights + kHeadWeights) + 2.0 * 4 * 4 * 64 * 101;
  EXPECT_DOUBLE_EQ(one.f32_flop, ops);
  EXPECT_EQ(one.bf16_flop, 0.0);
  // 3 MB lie in the L3: 50 GB/s.
  EXPECT_DOUBLE_EQ(one.memory_s, static_cast<double>(weights + cache) / 50e9);
  EXPECT_DOUBLE_EQ(one.compute_s, ops / 100e9);
  EXPECT_STREQ(one.bound(), "memory");
}

TEST_F(Roofline, ABatchReadsTheWeightsOnce) {
  make(small_config());
  const PassLimit one = limit({1, 100, 1, 1});
  const PassLimit four = limit({1, 100, 4, 4});
  EXPECT_EQ(four.read_bytes - one.read_bytes, 3 * (2 * 100 * 1024 + 256 * 2));
  EXPECT_DOUBLE_EQ(four.f32_flop, 4.0 * one.f32_flop);
}

TEST_F(Roofline, APromptNeedsTheHeadOnceAndSeesItself) {
  make(small_config());
  const PassLimit prompt = limit({64, 0, 1, 1});
  const double attention = 2.0 * 4 * 4 * 64 * (64.0 * 65 / 2);
  EXPECT_DOUBLE_EQ(prompt.f32_flop, 2.0 * (64.0 * 2 * kLayerWeights + kHeadWeights) + attention);
  EXPECT_EQ(prompt.read_bytes, (2 * kLayerWeights + kHeadWeights + 64 * 256) * 2);
  EXPECT_STREQ(prompt.bound(), "compute");
  EXPECT_DOUBLE_EQ(prompt.limit_s(), prompt.compute_s);
  const PassLimit piece = limit({64, 0, 1, 0});  // not the last of its prompt
  EXPECT_DOUBLE_EQ(prompt.f32_flop - piece.f32_flop, 2.0 * kHeadWeights);
  EXPECT_EQ(prompt.read_bytes - piece.read_bytes, 2 * kHeadWeights);
}

TEST_F(Roofline, AWindowLimitsKeysAndBytes) {
  Json json = small_config();
  json["use_sliding_window"] = true;
  json["sliding_window"] = 16;
  json["max_window_layers"] = 1;  // the second of the two layers slides
  make(json);
  ASSERT_EQ(plan_.config.windows, (std::vector<int64_t>{0, 16}));
  const PassLimit one = limit({1, 100, 1, 1});
  make(small_config());
  const PassLimit full = limit({1, 100, 1, 1});
  EXPECT_EQ(full.read_bytes - one.read_bytes, (100 - 15) * 1024);
  EXPECT_DOUBLE_EQ(full.f32_flop - one.f32_flop, 4.0 * 4 * 64 * (101 - 16));
}

TEST_F(Roofline, TheKernelsTypeAndTheCachesTypeChooseThePeak) {
  make(small_config(), KvType::kBf16);
  MatmulKernel int8 = *plan_.matrices.front().kernel;
  int8.arithmetic = Arithmetic::kInt8;
  for (PlannedMatrix& matrix : plan_.matrices) {
    if (matrix.role != Role::kHead) matrix.kernel = &int8;
  }
  const PassLimit one = limit({1, 99, 1, 1});
  EXPECT_DOUBLE_EQ(one.int8_op, 2.0 * 2 * kLayerWeights);
  EXPECT_DOUBLE_EQ(one.f32_flop, 2.0 * kHeadWeights);
  EXPECT_DOUBLE_EQ(one.bf16_flop, 2.0 * 4 * 4 * 64 * 100);
  EXPECT_DOUBLE_EQ(one.compute_s,
                   one.int8_op / 400e9 + one.f32_flop / 100e9 + one.bf16_flop / 200e9);
}

TEST_F(Roofline, OnlyChosenExpertsAreRead) {
  Json json = small_config();
  json["architectures"] = {"Qwen3MoeForCausalLM"};
  json["head_dim"] = 64;
  json["num_experts"] = 8;
  json["num_experts_per_tok"] = 2;
  json["moe_intermediate_size"] = 128;
  json["norm_topk_prob"] = true;
  make(json);
  const int64_t expert = 3 * 128 * 256;
  const int64_t others = 2 * (256 * 256 * 2 + 128 * 256 * 2 + 8 * 256) + kHeadWeights;
  const PassLimit one = limit({1, 0, 1, 1});
  EXPECT_EQ(one.read_bytes, (others + 2 * 2 * expert + 256) * 2);
  // 1 - (3/4)^3 of 8 experts for three tokens.
  const PassLimit three = limit({1, 0, 3, 3});
  EXPECT_NEAR(static_cast<double>(three.read_bytes),
              (others + 2 * 8 * (1 - 27.0 / 64) * expert + 3 * 256) * 2, 4.0);
  EXPECT_DOUBLE_EQ(three.f32_flop, 3.0 * one.f32_flop);
}

TEST_F(Roofline, ATiedHeadIsTheEmbedding) {
  Json json = small_config();
  json["tie_word_embeddings"] = true;
  make(json);
  const PassLimit one = limit({1, 0, 1, 1});
  EXPECT_EQ(one.read_bytes, (2 * kLayerWeights + kHeadWeights) * 2);
  EXPECT_EQ(one.read_bytes, plan_.read_bytes_per_token);
}

TEST(Ceilings, TheWorkingSetChoosesTheLevel) {
  const Ceilings c = round_ceilings();
  EXPECT_EQ(c.for_working_set(0).level, "L2");
  EXPECT_EQ(c.for_working_set(1 << 20).level, "L2");
  EXPECT_EQ(c.for_working_set((1 << 20) + 1).level, "L3");
  EXPECT_EQ(c.for_working_set(int64_t{1} << 40).level, "memory");
}

}  // namespace
}  // namespace quench
