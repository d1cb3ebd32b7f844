// Every level this CPU has, judged; and wrong kernels, to show that the judge sees them. All cases
// with QUENCH_CONFORMANCE=full (or `quench check`), a subset without.
#include "devices/conformance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "devices/tolerance.h"

namespace quench {
namespace {

Effort effort() {
  const char* wanted = std::getenv("QUENCH_CONFORMANCE");
  return wanted != nullptr && std::strcmp(wanted, "full") == 0 ? Effort::kFull : Effort::kQuick;
}

TEST(Conformance, EveryLevelOfThisCpu) {
  Conformance conformance(effort());
  const std::vector<DeviceRow> devices = list_devices();
  ASSERT_FALSE(devices.at(0).levels.empty());
  for (const std::string& level : devices.at(0).levels) {
    const auto results = conformance.judge("cpu", level);
    ASSERT_TRUE(results) << results.error().message;
    for (const ConformanceResult& r : *results) {
      EXPECT_TRUE(r.passed) << level << ": " << r.name << ", " << r.shape << ": " << r.message;
    }
  }
}

// The reference kernel, made wrong in one way each.
class WrongKernel : public testing::Test {
 protected:
  void SetUp() override {
    auto bench = open_bench("cpu", "ref");
    ASSERT_TRUE(bench) << bench.error().message;
    bench_ = std::move(*bench);
    right_kernel = bench_.teams[0]->matmul_kernels()[0];
    wrong_ = *right_kernel;
    wrong_.name = "wrong_f32";
    // One format of each kind is enough.
    wrong_.accepts = [](const Format& format, int64_t n, int64_t k) {
      return (format.name == "bf16" || format.name == "int4_g32") && format.fits(n, k);
    };
  }

  // The messages of what failed, each once.
  std::string failures() {
    std::string text;
    for (const ConformanceResult& r : judge_matmul(bench_, wrong_, Effort::kQuick)) {
      if (!r.passed) text += r.shape + ": " + r.message + "\n";
    }
    return text;
  }
  void expect_caught(const std::string& words) {
    const std::string text = failures();
    EXPECT_NE(text.find(words), std::string::npos) << "\"" << words << "\" is not in:\n" << text;
  }

  static const MatmulKernel* right_kernel;
  TestBench bench_;
  MatmulKernel wrong_{};
};
const MatmulKernel* WrongKernel::right_kernel = nullptr;

TEST_F(WrongKernel, ARightOnePasses) { EXPECT_EQ(failures(), ""); }

TEST_F(WrongKernel, AWrongValueIsFarFromRef) {
  wrong_.run = [](const OpContext& context, const MatmulArgs& args) {
    right_kernel->run(context, args);
    if (context.worker.index == 0 && args.m > 0) args.y[0][0] += 0.01f;
  };
  expect_caught("of the norm away from ref");
}

TEST_F(WrongKernel, OtherBitsForManyTokens) {
  wrong_.run = [](const OpContext& context, const MatmulArgs& args) {
    right_kernel->run(context, args);
    context.worker.wait();
    // One unit in the last place, from m = 5 on: far within every tolerance.
    if (context.worker.index == 0 && args.m >= 5) args.y[0][3] *= 1.0f + 0x1p-23f;
  };
  expect_caught("of m = 5 on 1 workers has other bits");
}

TEST_F(WrongKernel, OtherBitsForMoreWorkers) {
  wrong_.run = [](const OpContext& context, const MatmulArgs& args) {
    right_kernel->run(context, args);
    context.worker.wait();
    if (context.worker.index == 2) args.y[0][0] *= 1.0f + 0x1p-23f;
  };
  expect_caught("on 3 workers has other bits");
}

TEST_F(WrongKernel, OtherBitsInAList) {
  wrong_.run = [](const OpContext& context, const MatmulArgs& args) {
    right_kernel->run(context, args);
    context.worker.wait();
    if (context.worker.index == 0 && args.num_weights > 1) args.y[2][5] *= 1.0f + 0x1p-23f;
  };
  expect_caught("of weight 2 in a list");
}

TEST_F(WrongKernel, TokensTakenAsTheyComeInsteadOfTheirRows) {
  wrong_.run = [](const OpContext& context, const MatmulArgs& args) {
    MatmulArgs without = args;
    without.rows = nullptr;
    right_kernel->run(context, without);
  };
  expect_caught("of expert 1 is");
}

TEST_F(WrongKernel, AForgottenBias) {
  wrong_.run = [](const OpContext& context, const MatmulArgs& args) {
    Weight first = *args.weights[0];
    first.bias = nullptr;
    const Weight* const weights[] = {&first, args.weights[1 % args.num_weights],
                                     args.weights[2 % args.num_weights]};
    MatmulArgs without = args;
    without.weights = weights;
    right_kernel->run(context, without);
  };
  expect_caught("of the norm away from ref");
}

TEST_F(WrongKernel, AWriteBehindTheEnd) {
  wrong_.run = [](const OpContext& context, const MatmulArgs& args) {
    right_kernel->run(context, args);
    context.worker.wait();
    if (context.worker.index == 0) args.y[0][args.m * args.weights[0]->n] = 0.0f;
  };
  expect_caught("wrote outside y or scratch");
}

TEST_F(WrongKernel, AWrongLookUp) {
  wrong_.gather = [](const OpContext& context, const Weight& weight, const int32_t* ids,
                     int64_t num_ids, float* y) {
    right_kernel->gather(context, weight, ids, num_ids, y);
    if (context.worker.index == 0) y[0] = std::nextafter(y[0], 1.0f);
  };
  expect_caught("gather of row 0");
}

TEST_F(WrongKernel, InputsQuantizedTooCoarsely) {
  // 31 levels per 32 columns where the kernel promises 255 per 128.
  wrong_.arithmetic = Arithmetic::kInt8;
  wrong_.run = [](const OpContext& context, const MatmulArgs& args) {
    const int64_t k = args.weights[0]->k;
    std::vector<float> x(args.x, args.x + args.x_rows * k);
    for (int64_t begin = 0; begin < args.x_rows * k; begin += 32) {
      float largest = 0.0f;
      for (int64_t i = begin; i < begin + 32; ++i)
        largest = std::max(largest, std::fabs(x[static_cast<size_t>(i)]));
      const float step = largest / 15.0f;
      if (step == 0.0f) continue;
      for (int64_t i = begin; i < begin + 32; ++i) {
        x[static_cast<size_t>(i)] = std::round(x[static_cast<size_t>(i)] / step) * step;
      }
    }
    MatmulArgs rounded = args;
    rounded.x = x.data();
    right_kernel->run(context, rounded);
  };
  expect_caught("of the norm away from ref");
}

TEST(WrongOp, ATailOfTheVectorThatRoundsOtherwise) {
  auto bench = open_bench("cpu", "ref");
  ASSERT_TRUE(bench) << bench.error().message;
  static const Ops right = bench->teams[0]->ops();
  Ops wrong = right;
  // Right to the last bit but one, and dependent on how many elements the call has.
  wrong.silu_mul = [](const OpContext& context, const SiluMulArgs& args) {
    right.silu_mul(context, args);
    context.worker.wait();
    if (context.worker.index == 0) args.y[args.count - 1] *= 1.0f + 0x1p-23f;
  };
  std::string text;
  for (const ConformanceResult& r : judge_ops(*bench, wrong, Effort::kQuick)) {
    EXPECT_TRUE(r.passed || r.name == "silu_mul") << r.name << ": " << r.message;
    if (!r.passed) text += r.message + "\n";
  }
  EXPECT_NE(text.find("one row per call changes bits"), std::string::npos) << text;
}

}  // namespace
}  // namespace quench
