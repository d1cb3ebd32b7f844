// The attention and the KV store of every level this CPU has, against ref/ and against themselves.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "devices/cpu/levels_for_test.h"
#include "devices/kv.h"

namespace quench {
namespace {

// About normal: four uniform draws.
float normal(uint64_t index) {
  double sum = -2.0;
  for (uint32_t stream = 0; stream < 4; ++stream) sum += random_uniform(5, index, stream);
  return static_cast<float>(sum * std::sqrt(3.0));
}

struct Shape {
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t window;
  bool logn;
  std::vector<int64_t> lengths;  // of the sequences, all of whose tokens are queries
};

// A piece of one sequence in one step.
struct Piece {
  int64_t sequence;
  int64_t begin;
  int64_t end;
};
using Step = std::vector<Piece>;

// Random queries, keys and values of whole sequences, and their attention computed in steps.
class Problem {
 public:
  Problem(const Shape& shape, KvType type, float spread = 1.5f) : shape_(shape), type_(type) {
    uint64_t drawn = 0;
    for (const int64_t length : shape.lengths) {
      max_length_ = std::max(max_length_, length);
      auto fill = [&](std::vector<std::vector<float>>& into, int64_t heads, float sigma) {
        std::vector<float> values(static_cast<size_t>(length * heads * shape.head_dim));
        for (float& value : values) value = sigma * normal(drawn++);
        into.push_back(std::move(values));
      };
      fill(q_, shape.heads, spread);
      fill(k_, shape.kv_heads, 1.0f);
      fill(v_, shape.kv_heads, 1.0f);
    }
  }

  // [sequence][token, heads, head_dim]
  using Outputs = std::vector<std::vector<float>>;

  Outputs run(const Ops& ops, const std::vector<Step>& steps, int threads) {
    const int64_t pages_each = (max_length_ + kPageTokens - 1) / kPageTokens;
    const auto sequences = static_cast<int64_t>(shape_.lengths.size());
    const int64_t page_bytes = kv_page_bytes(type_, shape_.kv_heads, shape_.head_dim);
    // Stale pages of other sequences hold anything, not-a-number included.
    std::vector<float> memory(static_cast<size_t>(pages_each * sequences * page_bytes / 4 + 16),
                              std::nanf(""));
    auto* base = reinterpret_cast<std::byte*>(memory.data());
    base += (64 - reinterpret_cast<uintptr_t>(base) % 64) % 64;
    Outputs outputs;
    for (const auto& q : q_) outputs.emplace_back(q.size());
    ThreadTeam team(threads);
    for (const Step& step : steps) run_step(ops, step, team, base, page_bytes, pages_each, outputs);
    return outputs;
  }

 private:
  void run_step(const Ops& ops, const Step& step, ThreadTeam& team, std::byte* base,
                int64_t page_bytes, int64_t pages_each, Outputs& outputs) {
    std::vector<int32_t> positions;
    std::vector<int32_t> sequence;
    std::vector<int32_t> page_table;
    std::vector<float> q;
    std::vector<float> k;
    std::vector<float> v;
    std::vector<float> scale;
    const auto sequences = static_cast<int64_t>(shape_.lengths.size());
    for (size_t p = 0; p < step.size(); ++p) {
      const Piece& piece = step[p];
      for (int64_t t = piece.begin; t < piece.end; ++t) {
        positions.push_back(static_cast<int32_t>(t));
        sequence.push_back(static_cast<int32_t>(p));
        scale.push_back(1.0f + static_cast<float>(t % 7) / 8.0f);
      }
      auto append = [&](std::vector<float>& to, const std::vector<float>& from, int64_t heads) {
        const int64_t row = heads * shape_.head_dim;
        to.insert(to.end(), from.begin() + piece.begin * row, from.begin() + piece.end * row);
      };
      const auto s = static_cast<size_t>(piece.sequence);
      append(q, q_[s], shape_.heads);
      append(k, k_[s], shape_.kv_heads);
      append(v, v_[s], shape_.kv_heads);
      // Pages of different sequences lie among each other.
      for (int64_t block = 0; block < pages_each; ++block) {
        page_table.push_back(
            static_cast<int32_t>((pages_each - 1 - block) * sequences + piece.sequence));
      }
    }
    const auto tokens = static_cast<int64_t>(positions.size());
    const BatchView batch = {tokens,
                             static_cast<int64_t>(step.size()),
                             positions.data(),
                             sequence.data(),
                             page_table.data(),
                             pages_each};
    const KvPages pages = {base, page_bytes, type_};
    std::vector<float> out(q.size());
    const int64_t scratch_bytes =
        attention_scratch_bytes(tokens, shape_.heads, shape_.head_dim, max_length_);
    std::vector<float> scratch(static_cast<size_t>(scratch_bytes / 4), std::nanf(""));
    team.run([&](const Worker& worker) {
      const OpContext context = {worker, nullptr, reinterpret_cast<std::byte*>(scratch.data())};
      ops.kv_store(context, {k.data(), v.data(), pages, batch, shape_.kv_heads, shape_.head_dim});
      worker.wait();
      ops.attention(context, {q.data(), shape_.logn ? scale.data() : nullptr, out.data(), pages,
                              batch, shape_.heads, shape_.kv_heads, shape_.head_dim, shape_.window,
                              1.0f / std::sqrt(static_cast<float>(shape_.head_dim))});
    });
    const float* from = out.data();
    for (const Piece& piece : step) {
      const int64_t row = shape_.heads * shape_.head_dim;
      const int64_t count = (piece.end - piece.begin) * row;
      std::copy_n(from, count,
                  outputs[static_cast<size_t>(piece.sequence)].data() + piece.begin * row);
      from += count;
    }
  }

  Shape shape_;
  KvType type_;
  int64_t max_length_ = 0;
  Outputs q_, k_, v_;
};

// Every sequence alone, whole.
std::vector<Step> alone(const Shape& shape) {
  std::vector<Step> steps;
  for (size_t s = 0; s < shape.lengths.size(); ++s) {
    steps.push_back({{static_cast<int64_t>(s), 0, shape.lengths[s]}});
  }
  return steps;
}

// All sequences together, each in chunks of its own size.
std::vector<Step> ragged(const Shape& shape, int64_t chunk) {
  std::vector<int64_t> done(shape.lengths.size(), 0);
  std::vector<Step> steps;
  for (;;) {
    Step step;
    for (size_t s = 0; s < done.size(); ++s) {
      const int64_t end = std::min(shape.lengths[s], done[s] + chunk + static_cast<int64_t>(s) * 3);
      if (done[s] < end) step.push_back({static_cast<int64_t>(s), done[s], end});
      done[s] = end;
    }
    if (step.empty()) return steps;
    steps.push_back(step);
  }
}

double relative_error(const Problem::Outputs& got, const Problem::Outputs& want) {
  double error = 0.0;
  double norm = 0.0;
  for (size_t s = 0; s < got.size(); ++s) {
    for (size_t i = 0; i < got[s].size(); ++i) {
      error += std::pow(static_cast<double>(got[s][i]) - want[s][i], 2);
      norm += std::pow(static_cast<double>(want[s][i]), 2);
    }
  }
  return std::sqrt(error / norm);
}

bool same_bits(const Problem::Outputs& a, const Problem::Outputs& b) {
  for (size_t s = 0; s < a.size(); ++s) {
    if (std::memcmp(a[s].data(), b[s].data(), a[s].size() * sizeof(float)) != 0) return false;
  }
  return true;
}

std::string describe(const Shape& shape, KvType type, const std::string& level) {
  return fmt::format("{} {} heads {}/{} dim {} window {} logn {}", level,
                     kKvTypes[static_cast<int>(type)].name, shape.heads, shape.kv_heads,
                     shape.head_dim, shape.window, shape.logn);
}

const KvType kTypes[] = {KvType::kF32, KvType::kBf16, KvType::kInt8};

const Shape kShapes[] = {
    {1, 1, 16, 0, false, {1, 63, 64, 65}},
    {4, 2, 8, 24, false, {130, 7}},
    {6, 2, 24, 0, true, {129, 200}},
    {3, 1, 48, 100, true, {191, 40}},
    {8, 1, 64, 0, false, {300}},
    {14, 2, 64, 70, false, {257, 3, 90}},
    {12, 2, 128, 0, false, {140, 61}},
    {7, 1, 80, 0, false, {66}},
    {5, 1, 128, 64, false, {260}},
    {4, 4, 96, 0, true, {127, 5}},
    {2, 1, 256, 0, false, {100, 30}},
    {2, 2, 512, 33, false, {70}},
    {9, 1, 32, 0, false, {70}},
};

// f32 pages: rounding of sums of up to 512 products and of the exponential, 1e-7 each.
// bf16 and int8 pages at the avx512 level: ref/ reads the same stored values, but queries and
// weights are rounded to bf16 here (2^-9 each at most, 2^-10.8 rms): a score of a few units moves
// by 1 %.
double tolerance(KvType type, const std::string& level) {
  const bool rounds = type != KvType::kF32 && level == "avx512";
  return rounds ? 6e-3 : 2e-6;
}

TEST(Attention, AgreesWithRef) {
  const std::vector<TestLevel> all = test_levels();
  for (const Shape& shape : kShapes) {
    for (const KvType type : kTypes) {
      Problem problem(shape, type);
      const auto want = problem.run(all[0].table.ops, ragged(shape, 64), 1);
      for (size_t l = 1; l < all.size(); ++l) {
        const auto got = problem.run(all[l].table.ops, ragged(shape, 64), 2);
        EXPECT_LT(relative_error(got, want), tolerance(type, all[l].name))
            << describe(shape, type, all[l].name);
      }
    }
  }
}

TEST(Attention, RefStoresWhatTheTypeCanHold) {
  // The judge itself: its int8 and bf16 pages against its f32 pages.
  const std::vector<TestLevel> all = test_levels();
  const Shape& shape = kShapes[6];
  const auto exact = Problem(shape, KvType::kF32).run(all[0].table.ops, alone(shape), 1);
  const auto bf16 = Problem(shape, KvType::kBf16).run(all[0].table.ops, alone(shape), 1);
  const auto int8 = Problem(shape, KvType::kInt8).run(all[0].table.ops, alone(shape), 1);
  // 8 significant bits; codes of up to 127 steps where the largest of 128 normal numbers is 2.7.
  EXPECT_GT(relative_error(bf16, exact), 1e-4);
  EXPECT_LT(relative_error(bf16, exact), 5e-3);
  EXPECT_GT(relative_error(int8, exact), 1e-3);
  EXPECT_LT(relative_error(int8, exact), 2e-2);
}

TEST(Attention, SameBitsForChunksBatchesAndThreads) {
  struct Way {
    int64_t chunk;
    int threads;
  };
  const Way ways[] = {{1, 1}, {1, 3}, {7, 2}, {64, 1}, {64, 3}};
  for (const TestLevel& level : test_levels()) {
    if (level.name == "ref") continue;  // slow; Golden asserts it
    for (const Shape& shape : kShapes) {
      for (const KvType type : kTypes) {
        Problem problem(shape, type);
        const auto want = problem.run(level.table.ops, alone(shape), 1);
        for (const Way& way : ways) {
          EXPECT_TRUE(
              same_bits(problem.run(level.table.ops, ragged(shape, way.chunk), way.threads), want))
              << describe(shape, type, level.name) << " chunk " << way.chunk << " threads "
              << way.threads;
        }
      }
    }
  }
}

// Long enough for several segments: decoded tokens whose keys are split over workers give the bits
// of the prompt computed as a whole.
TEST(Attention, SameBitsWhenKeysAreSplit) {
  for (const TestLevel& level : test_levels()) {
    if (level.name == "ref") continue;
    for (const int64_t window : {int64_t{0}, int64_t{700}}) {
      const Shape shape = {6, 1, 32, window, false, {2100, 1030}};
      for (const KvType type : kTypes) {
        Problem problem(shape, type);
        const auto want = problem.run(level.table.ops, alone(shape), 1);
        std::vector<Step> steps = {{{0, 0, 2080}}, {{1, 0, 1025}}};
        for (int64_t i = 0; i < 5; ++i) {
          steps.push_back({{0, 2080 + i, 2081 + i}, {1, 1025 + i, 1026 + i}});
        }
        steps.push_back({{0, 2085, 2100}});
        for (const int threads : {1, 2, 3, 5}) {
          EXPECT_TRUE(same_bits(problem.run(level.table.ops, steps, threads), want))
              << describe(shape, type, level.name) << " threads " << threads;
        }
      }
    }
  }
}

// A token that sees one key returns its value; ties in the scores average.
TEST(Attention, KnownAnswers) {
  for (const TestLevel& level : test_levels()) {
    std::vector<float> memory(static_cast<size_t>(kv_page_bytes(KvType::kF32, 1, 16)) / 4,
                              std::nanf(""));
    const int32_t positions[] = {0, 1};
    const int32_t sequence[] = {0, 0};
    const int32_t page_table[] = {0};
    const BatchView batch = {2, 1, positions, sequence, page_table, 1};
    const KvPages pages = {reinterpret_cast<std::byte*>(memory.data()),
                           kv_page_bytes(KvType::kF32, 1, 16), KvType::kF32};
    std::vector<float> k(32, 0.0f);
    std::vector<float> v(32);
    std::iota(v.begin(), v.end(), 1.0f);
    std::vector<float> q(32, 1.0f);
    std::vector<float> out(32);
    const OpContext context = {Worker{}, nullptr};
    level.table.ops.kv_store(context, {k.data(), v.data(), pages, batch, 1, 16});
    level.table.ops.attention(context,
                              {q.data(), nullptr, out.data(), pages, batch, 1, 1, 16, 0, 0.25f});
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(out[i], v[i]) << level.name;
      EXPECT_FLOAT_EQ(out[16 + i], v[i] + 8.0f) << level.name;
    }
  }
}

// Scores far apart: the running maximum moves by hundreds and nothing overflows.
TEST(Attention, LargeScores) {
  const std::vector<TestLevel> all = test_levels();
  const Shape shape = {2, 1, 16, 0, true, {150}};
  Problem problem(shape, KvType::kF32, 60.0f);
  const auto want = problem.run(all[0].table.ops, alone(shape), 1);
  for (const TestLevel& level : all) {
    const auto got = problem.run(level.table.ops, ragged(shape, 7), 2);
    // A score of 1000 has a rounding error of 1e-4, and so has its weight.
    EXPECT_LT(relative_error(got, want), 1e-3) << level.name;
  }
}

}  // namespace
}  // namespace quench
