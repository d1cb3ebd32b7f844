// The elementwise ops, norms, rotary embedding and routing of every level this CPU has, against
// ref/ over awkward shapes, and against themselves: the same bits for any number of workers.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "base/random.h"
#include "devices/cpu/levels_for_test.h"

namespace quench {
namespace {

using Floats = std::vector<float>;

Floats random_floats(int64_t count, float spread, uint64_t seed) {
  Floats values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = spread * (2.0f * static_cast<float>(random_uniform(seed, i)) - 1.0f);
  }
  return values;
}

// What one op wrote; `op` gets the table and the context of a worker.
using Run = std::function<Floats(const Ops&, int threads)>;

void on_team(int threads, const std::function<void(const OpContext&)>& body) {
  ThreadTeam team(threads);
  team.run([&](const Worker& worker) { body({worker, nullptr}); });
}

// |got - want| <= relative * |want| + absolute, for every level; any number of workers gives the
// same bits.
void check(const Run& run, float relative, float absolute, const std::string& what) {
  const std::vector<TestLevel> levels = test_levels();
  const Floats want = run(levels[0].table.ops, 1);
  for (const TestLevel& level : levels) {
    const Floats got = run(level.table.ops, 1);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_LE(std::abs(got[i] - want[i]), relative * std::abs(want[i]) + absolute)
          << level.name << " " << what << " at " << i << ": " << got[i] << ", ref " << want[i];
    }
    for (const int threads : {2, 3, 5}) {
      const Floats other = run(level.table.ops, threads);
      EXPECT_EQ(std::memcmp(got.data(), other.data(), got.size() * sizeof(float)), 0)
          << level.name << " " << what << " with " << threads << " workers";
    }
  }
}

TEST(Ops, RmsNorm) {
  struct Shape {
    int64_t rows;
    int64_t cols;
  };
  for (const Shape s : {Shape{1, 1}, {3, 7}, {40, 128}, {2, 64}, {5, 896}, {2, 1537}, {1, 8192}}) {
    for (const bool in_place : {false, true}) {
      const Floats x = random_floats(s.rows * s.cols, 3.0f, 1);
      const Floats weight = random_floats(s.cols, 2.0f, 2);
      // The f32 sum of squares is right to 1e-6, and half of that reaches the root.
      check(
          [&](const Ops& ops, int threads) {
            Floats y = in_place ? x : Floats(x.size());
            const float* from = in_place ? y.data() : x.data();
            on_team(threads, [&](const OpContext& c) {
              ops.rms_norm(c, {from, weight.data(), y.data(), s.rows, s.cols, 1e-6f});
            });
            return y;
          },
          1e-6f, 0.0f, fmt::format("{} x {}", s.rows, s.cols));
    }
  }
}

TEST(Ops, RmsNormOfARowDoesNotDependOnTheOthers) {
  for (const TestLevel& level : test_levels()) {
    const Floats x = random_floats(9 * 130, 3.0f, 1);
    const Floats weight(130, 1.5f);
    Floats together(x.size());
    Floats alone(x.size());
    on_team(2, [&](const OpContext& c) {
      level.table.ops.rms_norm(c, {x.data(), weight.data(), together.data(), 9, 130, 1e-6f});
    });
    for (int64_t r = 0; r < 9; ++r) {
      on_team(1, [&](const OpContext& c) {
        level.table.ops.rms_norm(
            c, {x.data() + r * 130, weight.data(), alone.data() + r * 130, 1, 130, 1e-6f});
      });
    }
    EXPECT_EQ(alone, together) << level.name;
  }
}

TEST(Ops, RopeTable) {
  for (const int64_t dim : {2, 24, 64, 128, 256}) {
    Floats inv_freq;
    for (const double theta : {1e4, 1e6}) {
      for (int64_t i = 0; i < dim / 2; ++i) {
        inv_freq.push_back(static_cast<float>(
            std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim))));
      }
    }
    const Floats scales = {1.0f, 1.25f};
    const std::vector<int32_t> positions = {0, 1, 2, 3, 63, 1000, 32767, 131071, 1000000, 16777215};
    const std::vector<int32_t> table = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
    check(
        [&](const Ops& ops, int threads) {
          Floats rows(positions.size() * static_cast<size_t>(dim));
          on_team(threads, [&](const OpContext& c) {
            ops.rope_table(c, {positions.data(), table.data(), inv_freq.data(), scales.data(),
                               rows.data(), static_cast<int64_t>(positions.size()), dim});
          });
          return rows;
        },
        0.0f, 3e-7f, fmt::format("dim {}", dim));
  }
}

TEST(Ops, Rope) {
  struct Shape {
    int64_t heads;
    int64_t head_dim;
    int64_t rotary_dim;
  };
  for (const Shape s : {Shape{1, 2, 2}, {3, 24, 24}, {2, 80, 40}, {12, 128, 128}, {2, 64, 18}}) {
    const Floats x = random_floats(5 * s.heads * s.head_dim, 10.0f, 3);
    const Floats cos_sin = random_floats(5 * s.rotary_dim, 1.0f, 4);
    // Differences of two products of up to 10: two roundings of 10 * 2^-24 each.
    check(
        [&](const Ops& ops, int threads) {
          Floats y = x;
          on_team(threads, [&](const OpContext& c) {
            ops.rope(c, {y.data(), cos_sin.data(), 5, s.heads, s.head_dim, s.rotary_dim});
          });
          return y;
        },
        0.0f, 2e-6f, fmt::format("{} heads of {}, {} turn", s.heads, s.head_dim, s.rotary_dim));
  }
}

TEST(Ops, SiluMul) {
  for (const int64_t count : {1, 15, 16, 17, 1000, 18944}) {
    Floats gate = random_floats(count, 12.0f, 5);
    const Floats extremes = {0.0f, -0.0f, 80.0f, -80.0f, 86.0f, -86.0f, 1000.0f, -1000.0f};
    std::copy_n(extremes.begin(), std::min<size_t>(extremes.size(), gate.size()), gate.begin());
    const Floats up = random_floats(count, 3.0f, 6);
    for (const bool in_place : {false, true}) {
      check(
          [&](const Ops& ops, int threads) {
            Floats y = in_place ? gate : Floats(gate.size());
            const float* from = in_place ? y.data() : gate.data();
            on_team(threads, [&](const OpContext& c) {
              ops.silu_mul(c, {from, up.data(), y.data(), count});
            });
            return y;
          },
          1e-6f, 1e-30f, fmt::format("{}", count));
    }
  }
}

TEST(Ops, NotANumberStays) {
  for (const TestLevel& level : test_levels()) {
    const Floats gate = {std::nanf(""), 1.0f, std::nanf("")};
    const Floats up = {1.0f, std::nanf(""), 2.0f};
    Floats y(3);
    on_team(1, [&](const OpContext& c) {
      level.table.ops.silu_mul(c, {gate.data(), up.data(), y.data(), 3});
    });
    for (const float value : y) EXPECT_TRUE(std::isnan(value)) << level.name;
  }
}

TEST(Ops, Add) {
  struct Shape {
    int64_t rows;
    int64_t cols;
  };
  for (const Shape s : {Shape{1, 1}, {7, 33}, {3, 128}, {2, 1536}, {1, 100}}) {
    const Floats x = random_floats(s.rows * s.cols, 3.0f, 7);
    const Floats y = random_floats(s.rows * s.cols, 3.0f, 8);
    const Floats gate = random_floats(s.rows, 6.0f, 9);
    for (const bool gated : {false, true}) {
      check(
          [&](const Ops& ops, int threads) {
            Floats sum = x;
            on_team(threads, [&](const OpContext& c) {
              ops.add(c, {sum.data(), y.data(), gated ? gate.data() : nullptr, s.rows, s.cols});
            });
            return sum;
          },
          2e-7f, 2e-6f, fmt::format("{} x {} gated {}", s.rows, s.cols, gated));
    }
  }
}

TEST(Ops, GatherRows) {
  const Floats x = random_floats(20 * 37, 1.0f, 10);
  const std::vector<int32_t> rows = {19, 0, 7, 7, 3};
  check(
      [&](const Ops& ops, int threads) {
        Floats y(rows.size() * 37);
        on_team(threads, [&](const OpContext& c) {
          ops.gather_rows(c, {x.data(), rows.data(), y.data(), 5, 37});
        });
        return y;
      },
      0.0f, 0.0f, "rows");
}

struct RouteShape {
  int64_t tokens;
  int64_t experts;
  int64_t per_token;
};

TEST(Ops, MoeRoute) {
  for (const RouteShape s : {RouteShape{1, 2, 1},
                             {5, 8, 8},
                             {33, 60, 4},
                             {17, 128, 8},
                             {9, 512, 10},
                             {3, 1500, 2},
                             {50, 7, 3}}) {
    for (const bool ties : {false, true}) {
      Floats logits = random_floats(s.tokens * s.experts, 6.0f, 11);
      if (ties) {
        for (float& logit : logits) logit = std::round(logit);
      }
      for (const bool renormalise : {false, true}) {
        // Integers first, exactly; then the weights.
        const std::vector<TestLevel> levels = test_levels();
        std::vector<int32_t> want;
        auto route = [&](const Ops& ops, int threads, std::vector<int32_t>* integers) {
          const int64_t choices = s.tokens * s.per_token;
          std::vector<int32_t> begin(static_cast<size_t>(s.experts + 1));
          std::vector<int32_t> token(static_cast<size_t>(choices));
          std::vector<int32_t> row(static_cast<size_t>(choices));
          Floats weights(static_cast<size_t>(choices));
          on_team(threads, [&](const OpContext& c) {
            ops.moe_route(c, {logits.data(), begin.data(), token.data(), row.data(), weights.data(),
                              s.tokens, s.experts, s.per_token, renormalise});
          });
          if (integers != nullptr) {
            *integers = begin;
            integers->insert(integers->end(), token.begin(), token.end());
            integers->insert(integers->end(), row.begin(), row.end());
          }
          return weights;
        };
        route(levels[0].table.ops, 1, &want);
        const std::string what =
            fmt::format("{} tokens, {} of {}, ties {}", s.tokens, s.per_token, s.experts, ties);
        for (const TestLevel& level : levels) {
          for (const int threads : {1, 3}) {
            std::vector<int32_t> got;
            route(level.table.ops, threads, &got);
            EXPECT_EQ(got, want) << level.name << " " << what;
          }
        }
        check([&](const Ops& ops, int threads) { return route(ops, threads, nullptr); }, 2e-6f,
              0.0f, what);
      }
    }
  }
}

TEST(Ops, MoeCombine) {
  for (const int64_t cols : {1, 100, 128, 2048, 2050}) {
    const int64_t tokens = 5;
    const int64_t per_token = 3;
    const Floats x = random_floats(tokens * cols, 2.0f, 12);
    const Floats y = random_floats(tokens * per_token * cols, 2.0f, 13);
    const Floats weights = random_floats(tokens * per_token, 1.0f, 14);
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < 15; ++i) rows.push_back(i * 7 % 15);
    check(
        [&](const Ops& ops, int threads) {
          Floats sum = x;
          on_team(threads, [&](const OpContext& c) {
            ops.moe_combine(
                c, {sum.data(), y.data(), rows.data(), weights.data(), tokens, per_token, cols});
          });
          return sum;
        },
        2e-7f, 2e-6f, fmt::format("{} columns", cols));
  }
}

}  // namespace
}  // namespace quench
