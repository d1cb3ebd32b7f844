#include "measure/allocate_bits.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace quench {
namespace {

std::unique_ptr<PlannedModel> demo() {
  SessionOptions options;
  options.device_options.num_threads = 2;
  return plan_model(options, Weights::kRequired).value();
}

// The real thing, short: rounding only, little text.
struct ShortJob {
  explicit ShortJob(const std::string& name, int64_t domain_tokens)
      : dir(std::filesystem::temp_directory_path() / ("quench-allocate-" + name)),
        preset(*recipe_for_bits(demo()->plan, 5.6)) {
    std::filesystem::remove_all(dir);
    std::filesystem::create_directories(dir);
    options.session.device_options.num_threads = 2;
    options.algorithm = "rtn";
    options.out = (dir / "out").string();
    measuring.domain_tokens = domain_tokens;
  }
  ~ShortJob() { std::filesystem::remove_all(dir); }
  ShortJob(const ShortJob&) = delete;
  ShortJob& operator=(const ShortJob&) = delete;
  Result<AllocatedModel> make() const { return make_allocated(options, preset, measuring); }

  std::filesystem::path dir;
  Recipe preset;
  QuantizeOptions options;
  ChoiceOptions measuring;
};

TEST(AllocateBits, EveryQuantizedMatrixIsInOneGroup) {
  const auto model = demo();
  double weights = 0.0;
  for (const PlannedMatrix& matrix : model->plan.matrices)
    weights += role_row(matrix.role).is_quantized ? num_weights(matrix) : 0.0;
  const auto all = bit_groups(model->plan);
  const auto few = bit_groups(model->plan, 10);
  EXPECT_LT(few.size(), all.size());
  for (const auto& groups : {all, few}) {
    double sum = 0.0;
    for (const BitGroup& group : groups) sum += group.weights;
    EXPECT_EQ(sum, weights);
  }
}

TEST(AllocateBits, BitsGoWhereTheyHelpMost) {
  const std::vector<Rung> rungs = {{"a", 2.0}, {"b", 3.0}, {"c", 4.0}};
  const std::vector<double> distortions = {0.0625, 0.015625, 0.00390625};
  std::vector<BitGroup> groups = {
      {Role::kQ, {0}, 100.0, 0.01}, {Role::kQ, {1}, 100.0, 0.10}, {Role::kDown, {0}, 200.0, 0.03}};
  // 1200 bits are 3 for each weight.
  const auto at = allocate_rungs(groups, rungs, distortions, 0.05, 1200.0);
  double bits = 0.0;
  for (size_t g = 0; g < groups.size(); ++g) bits += rungs[at[g]].bits * groups[g].weights;
  EXPECT_LE(bits, 1200.0);
  EXPECT_EQ(at, (std::vector<size_t>{0, 2, 1}));
  // What loses nothing gets nothing.
  for (BitGroup& group : groups) group.coarse_kld = 0.0;
  EXPECT_EQ(allocate_rungs(groups, rungs, distortions, 0.05, 1e9), std::vector<size_t>(3, 0));
}

TEST(AllocateBits, DistortionFallsWithBits) {
  const auto model = demo();
  double last = 1.0;
  for (const char* format : {"int2_g64", "int3_g64", "int4_g64", "int8"}) {
    const double distortion = *normal_distortion(format, *model->device);
    EXPECT_LT(distortion, 0.5 * last) << format;
    last = distortion;
  }
  // 6 dB for a bit, from 9.3 dB at 2 bits (Max 1960) down.
  EXPECT_NEAR(*normal_distortion("int8", *model->device), 1.4e-4, 1e-4);
}

TEST(AllocateBits, TheBetterModelIsKept) {
  const ShortJob job("test", 128);
  const auto made = job.make();
  ASSERT_TRUE(made) << made.error().message;
  const BitAllocation& allocation = made->allocation;
  EXPECT_LE(allocation.measured_bytes, allocation.preset_bytes * 101 / 100);
  EXPECT_EQ(allocation.is_accepted, allocation.measured_kld->mean < allocation.preset_kld->mean);
  for (const BitGroup& group : allocation.groups) EXPECT_GT(group.coarse_kld, 0.0);
  // What lies there is the one that was kept.
  SessionOptions kept;
  kept.model = job.options.out;
  const auto kld = measure_kld(job.options.session, kept, job.measuring);
  ASSERT_TRUE(kld) << kld.error().message;
  EXPECT_EQ(kld->mean, std::min(allocation.measured_kld->mean, allocation.preset_kld->mean));
  EXPECT_FALSE(is_directory(job.options.out + ".by-role"));
  const Json json = *read_json_file(job.options.out + "/allocation.json");
  EXPECT_EQ(json["accepted"].get<bool>(), allocation.is_accepted);
  EXPECT_NE(allocation_text(json).find("by measurement"), std::string::npos);
}

TEST(AllocateBits, ResumingMeasuresOnlyTheGroupsThatAreLeft) {
  ShortJob job("resume-test", 32);
  std::atomic<bool> stop{false};
  std::vector<int64_t> measured;  // groups, in both runs
  int64_t interrupt_at = 8;
  job.measuring.stop = &stop;
  job.measuring.progress = [&](const std::string& stage, int64_t done, int64_t /*total*/) {
    if (stage.find("each group") == std::string::npos) return;
    if (done == interrupt_at) stop = true;
    measured.push_back(done);
  };
  const auto interrupted = job.make();
  ASSERT_FALSE(interrupted);
  EXPECT_EQ(interrupted.error().code, ErrorCode::kCancelled);
  EXPECT_NE(interrupted.error().message.find("--resume"), std::string::npos);
  const std::string note = job.options.out + ".groups.json";
  ASSERT_TRUE(std::filesystem::exists(note));

  stop = false;
  interrupt_at = -1;
  const auto refused = job.make();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find(note), std::string::npos) << refused.error().message;

  job.options.resume = true;
  const Json kept = (*read_json_file(note))["coarse_kld"];
  measured.clear();
  const auto made = job.make();
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_FALSE(measured.empty());
  EXPECT_EQ(measured.front(), static_cast<int64_t>(kept.size()));
  EXPECT_EQ(made->allocation.groups.front().coarse_kld, kept[0].get<double>());
  EXPECT_FALSE(std::filesystem::exists(note));
}

}  // namespace
}  // namespace quench
