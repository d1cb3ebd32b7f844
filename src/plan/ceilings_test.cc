#include "plan/ceilings.h"

#include <gtest/gtest.h>

#include <array>
#include <ctime>
#include <functional>

#include "base/file.h"
#include "own_cache.h"

namespace quench {
namespace {

std::unique_ptr<Device> open(const std::string& isa, int threads = 1) {
  DeviceOptions options;
  options.isa = isa;
  options.num_threads = threads;
  return *open_device("cpu", options);
}

std::vector<std::string> levels_here() {
  std::vector<std::string> levels;
  for (const char* isa : {"ref", "avx2", "avxvnni", "avx512", "amx"}) {
    DeviceOptions options;
    options.isa = isa;
    options.num_threads = 1;
    if (open_device("cpu", options)) levels.emplace_back(isa);
  }
  return levels;
}

uint64_t sum_words(const std::vector<uint64_t>& words) {
  uint64_t sum = 0;
  for (const uint64_t word : words) sum += word;
  return sum;
}

// A probe that skipped something would report more than the machine can do: the sum shows it.
TEST(Probes, ReadEveryByteOnceAtEveryLevel) {
  constexpr int64_t kBytes = 16 * kProbeGrain * 3;
  std::vector<uint64_t> words(kBytes / 8);
  for (size_t i = 0; i < words.size(); ++i) words[i] = i * i * 0x9e3779b97f4a7c15u + 1;
  const uint64_t want = sum_words(words);
  for (const std::string& isa : levels_here()) {
    const auto device = open(isa);
    const auto* data = reinterpret_cast<const std::byte*>(words.data());
    for (const int64_t streams : {1, 2, 4, 8, 16}) {
      for (const int64_t ahead : {0, 2048})
        EXPECT_EQ(device->probes().read(data, kBytes, streams, ahead), want) << isa << streams;
    }
  }
}

// What the chains compute is known, so a compiler that dropped or merged some would show.
TEST(Probes, PeaksDoTheArithmeticTheyCount) {
  for (const std::string& isa : levels_here()) {
    const auto device = open(isa);
    const Probes& probes = device->probes();
    ASSERT_NE(probes.f32.run, nullptr) << isa;
    // x <- x / 2 + 1/2 ends at 1 in each of the lanes that ops_per_round counts two each of.
    EXPECT_EQ(probes.f32.run(200), 0.5f * static_cast<float>(probes.f32.ops_per_round)) << isa;
    // x <- x + 2 (1/2)^2 per round, from i (i - 1) / 2 summed over the chains.
    if (probes.bf16.run != nullptr) {
      EXPECT_EQ(probes.bf16.run(8) - probes.bf16.run(4),
                0.5f * static_cast<float>(probes.bf16.ops_per_round))
          << isa;
    }
    for (const PeakProbe* int8 : {&probes.int8, &probes.int8_narrow}) {
      if (int8->run == nullptr) continue;
      EXPECT_EQ(int8->run(8) - int8->run(4), 2.0f * static_cast<float>(int8->ops_per_round)) << isa;
    }
  }
}

TEST(Ceilings, AreMeasuredAndSurviveJson) {
  const auto device = open("", 2);
  const auto measured = measure_ceilings(*device);
  ASSERT_TRUE(measured) << measured.error().message;
  EXPECT_EQ(measured->isa, device->isa());
  EXPECT_EQ(measured->threads, 2);
  ASSERT_EQ(measured->read.size(), 3u);
  for (const ReadCeiling& read : measured->read) {
    EXPECT_GT(read.read_gb_s.median, 0.0) << read.level;
    EXPECT_GE(read.read_gb_s.best, read.read_gb_s.median) << read.level;
    EXPECT_GE(read.streams, 1) << read.level;
  }
  EXPECT_LT(measured->read[0].working_set_bytes, measured->read[1].working_set_bytes);
  EXPECT_LT(measured->read[1].working_set_bytes, measured->read[2].working_set_bytes);
  EXPECT_GE(measured->int8_gop_s.best, measured->f32_gflop_s.best);
  EXPECT_EQ(device->allocated_bytes(), 0);
  const Json json = ceilings_json(*measured);
  const auto again = parse_ceilings(json, "here");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(ceilings_json(*again), json);
}

TEST(Ceilings, RefusesWhatIsNone) {
  for (const char* text : {"{}", "[]", "3", R"({"cpu_model": 3})"}) {
    const auto parsed = parse_ceilings(*parse_json(text, "x"), "file.json");
    ASSERT_FALSE(parsed) << text;
    EXPECT_TRUE(parsed.error().message.starts_with("file.json: ")) << parsed.error().message;
  }
}

class CeilingsCache : public testing::Test {
 protected:
  std::string path() const { return cache_.scratch().file("quench/ceilings.json"); }
  // Changes the first entry and writes the file back.
  void edit(const std::function<void(Json& entry)>& change) const {
    Json file = *read_json_file(path());
    change(file["entries"][0]);
    ASSERT_TRUE(write_file_atomic(path(), file.dump()));
  }

  const OwnCache cache_;
};

TEST_F(CeilingsCache, KeepsForADayPerMachine) {
  const auto device = open("ref");
  ASSERT_TRUE(cached_ceilings(*device, false));
  // A mark tells what comes from the file.
  auto make_quiet = [](Json& entry) {
    entry["measure_s"] = 12345.0;
    entry["others_share"] = 0.01;
    Json& memory = entry["read"].back()["read_gb_s"];
    memory["median"] = memory["best"];
  };
  edit(make_quiet);
  EXPECT_EQ(cached_ceilings(*device, false)->measure_s, 12345.0);
  edit([](Json& entry) { entry["unix_time_s"] = entry["unix_time_s"].get<int64_t>() - 90000; });
  EXPECT_NE(cached_ceilings(*device, false)->measure_s, 12345.0);
  edit(make_quiet);
  EXPECT_NE(cached_ceilings(*device, true)->measure_s, 12345.0);
  // Another machine's entry stays beside ours.
  edit([](Json& entry) { entry["cpu_model"] = "another"; });
  ASSERT_TRUE(cached_ceilings(*device, false));
  EXPECT_EQ((*read_json_file(path()))["entries"].size(), 2u);
}

// A disturbed minute says little about the next hour.
TEST_F(CeilingsCache, KeepsWhatWasDisturbedForMinutes) {
  const auto device = open("ref");
  ASSERT_TRUE(cached_ceilings(*device, false));
  for (const bool is_spread : {false, true}) {
    auto disturb = [&](Json& entry, int64_t age_s) {
      entry["measure_s"] = 12345.0;
      entry["others_share"] = is_spread ? 0.0 : 0.4;
      Json& memory = entry["read"].back()["read_gb_s"];
      memory["median"] = memory["best"].get<double>() * (is_spread ? 0.5 : 1.0);
      entry["unix_time_s"] = static_cast<int64_t>(std::time(nullptr)) - age_s;
    };
    edit([&](Json& entry) { disturb(entry, 60); });
    const auto recent = cached_ceilings(*device, false);
    EXPECT_EQ(recent->measure_s, 12345.0) << is_spread;
    EXPECT_EQ(recent->disturbance(), is_spread ? Disturbance::kMemory : Disturbance::kOthers);
    edit([&](Json& entry) { disturb(entry, 3600); });
    EXPECT_NE(cached_ceilings(*device, false)->measure_s, 12345.0) << is_spread;
  }
}

TEST_F(CeilingsCache, ABrokenFileIsMeasuredOver) {
  cache_.scratch().write("quench/ceilings.json", "{ not json");
  const auto device = open("ref");
  EXPECT_TRUE(cached_ceilings(*device, false));
  EXPECT_EQ((*read_json_file(path()))["entries"].size(), 1u);
}

TEST(Ceilings, SeveralMeasurementsGiveTheBestOfBestsAndTheMedianOfMedians) {
  auto turn = [](double best, double median) {
    Ceilings ceilings;
    ceilings.read = {{"memory", 0, 1 << 30, 4, 0, {best, median}}};
    ceilings.f32_gflop_s = ceilings.bf16_gflop_s = ceilings.int8_gop_s = {10.0 * best, median};
    return ceilings;
  };
  const Ceilings all = combined(std::array{turn(60, 30), turn(36, 35), turn(37, 36)});
  EXPECT_EQ(all.read[0].read_gb_s.best, 60);
  EXPECT_EQ(all.read[0].read_gb_s.median, 35);
  EXPECT_EQ(all.int8_gop_s.best, 600);
  EXPECT_EQ(all.usual().read[0].read_gb_s.best, 35);
  EXPECT_EQ(all.usual().f32_gflop_s.best, 35);
}

}  // namespace
}  // namespace quench
