// The amx level's kernels on any machine with AVX-512, their tile registers emulated
// (amx/emulated_test.cc). Machines with the real ones run them in conformance_test.cc too.
#include <gtest/gtest.h>

#include "base/cpuinfo.h"
#include "devices/conformance.h"

namespace quench {
namespace emulated_amx {
extern const MatmulKernel grid_matmul;
extern const MatmulKernel bf16_matmul;
void set_probes(Probes& probes);
}  // namespace emulated_amx
namespace {

void expect_conforming(const MatmulKernel& kernel) {
  if (!cpu_features().avx512) GTEST_SKIP() << "this CPU has no AVX-512";
  auto bench = open_bench("cpu", "avx512");
  ASSERT_TRUE(bench) << bench.error().message;
  const auto results = judge_matmul(*bench, kernel, Effort::kQuick);
  EXPECT_FALSE(results.empty());
  for (const ConformanceResult& r : results)
    EXPECT_TRUE(r.passed) << r.name << ", " << r.shape << ": " << r.message;
}

// Up to four tokens do not go through tiles, and the judge wants the same bits for any number.
TEST(EmulatedAmx, GridMatmul) { expect_conforming(emulated_amx::grid_matmul); }
TEST(EmulatedAmx, PeaksDoTheArithmeticTheyCount) {
  if (!cpu_features().avx512) GTEST_SKIP() << "this CPU has no AVX-512";
  Probes probes;
  emulated_amx::set_probes(probes);
  EXPECT_EQ(probes.int8.run(3), 1.5f * static_cast<float>(probes.int8.ops_per_round));
  EXPECT_EQ(probes.bf16.run(3), 0.375f * static_cast<float>(probes.bf16.ops_per_round));
}
TEST(EmulatedAmx, Bf16Matmul) { expect_conforming(emulated_amx::bf16_matmul); }

}  // namespace
}  // namespace quench
