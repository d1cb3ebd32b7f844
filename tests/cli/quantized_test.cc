// Checkpoints of other programs (tests/quant) through the whole program: the logits are those that
// transformers computes with the dequantized matrices.
#include <cmath>
#include <cstring>
#include <filesystem>

#include "cli/cli.h"
#include "io/npy.h"
#include "io/safetensors.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

double relative_error(const std::vector<float>& got, std::span<const std::byte> want_bytes) {
  std::vector<float> want(want_bytes.size() / sizeof(float));
  std::memcpy(want.data(), want_bytes.data(), want_bytes.size());
  EXPECT_EQ(got.size(), want.size());
  double error = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(error / norm);
}

// In float32 and, but for act-order, in the format of the file.
TEST(CliQuantized, LogitsAreThoseOfTheLibraries) {
  const ScratchDir scratch;
  const std::string path = scratch.file("logits.npy");
  int count = 0;
  for (const auto& entry : fs::directory_iterator(source_path("tests/quant"))) {
    const std::string model = entry.path().string();
    SCOPED_TRACE(model);
    const auto golden = SafetensorsFile::open(model + "/golden.safetensors");
    ASSERT_TRUE(golden) << golden.error().message;
    std::vector<std::string> command = {"logits", model,   "--ids", "3,1,4,1,5,9,2,6", "--isa",
                                        "ref",    "--out", path,    "--kv-format",     "f32"};
    const auto compare = [&] {
      const Output output = quench(command);
      ASSERT_EQ(output.status, 0) << output.err;
      const auto logits = read_npy(path);
      ASSERT_TRUE(logits) << logits.error().message;
      EXPECT_LT(relative_error(logits->values, golden->find("logits")->data), 2e-5);
    };
    compare();
    command.insert(command.end(), {"--format", "f32"});
    compare();
    ++count;
  }
  EXPECT_GE(count, 20);
}

}  // namespace
}  // namespace quench
