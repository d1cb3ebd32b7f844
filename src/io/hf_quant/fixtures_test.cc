// tests/quant: checkpoints that the libraries made which own the layouts, with the matrices that
// they themselves make of them (tools/make_quant_fixtures.py).
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "base/sha256.h"
#include "formats/quantized_tensor.h"
#include "io/raw_safetensors.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// What the matrices of a fixture are held in. LLM.int8 divides by 127 where its library multiplies
// with the inverse: its numbers agree to a unit in the last place, all others bit by bit.
struct Fixture {
  const char* name;
  std::set<std::string> formats;
  bool exact = true;
};
const Fixture kFixtures[] = {
    {"gptq_int4", {"int4_g32"}},
    {"gptq_int4_act_order", {"int4_g32"}},
    {"gptq_int8_rows", {"int8"}},
    {"gptq_int3", {"int3_g32"}},
    {"gptq_v2_int2", {"int2_g32_zp"}},
    {"gptq_v2_int4_head", {"int4_g64_zp"}},
    {"gptq_v2_int3", {"int3_g64_zp"}},
    {"gptq_2023", {"int4_g64"}},
    {"awq_gemm", {"int4_g32_zp"}},
    {"awq_gemv", {"int4_g64_zp"}},
    {"bnb_nf4", {"nf4_g64_f32"}},
    {"bnb_nf4_double", {"nf4_g64_f32"}},
    {"bnb_fp4", {"f32"}},
    {"bnb_int8", {"int8"}, false},
    {"compressed_int4", {"int4_g32_bf16"}},
    {"compressed_int4_zero_points", {"int4_g64_zp_bf16"}},
    {"compressed_int8_packed", {"int8_g64_zp", "int8_g128_zp"}},
    {"compressed_int8", {"int8"}},
    {"compressed_fp8", {"fp8"}},
    {"compressed_fp8_tensor", {"fp8"}},
    {"compressed_fp8_block", {"f32", "fp8"}},
    {"fp8", {"fp8_b128", "fp8"}},
    {"fp8_bf16_scales", {"f32", "fp8"}},
};

std::string fixture_path(const std::string& name) { return source_path("tests/quant/" + name); }

// All values in the order of the model's columns, in blocks of rows as the loader reads them.
std::vector<float> read_values(const StoredMatrix& matrix) {
  constexpr int64_t kStep = 128;
  std::vector<float> values(static_cast<size_t>(matrix.rows * matrix.cols));
  const auto cols = static_cast<size_t>(matrix.cols);
  for (int64_t row = 0; row < matrix.rows; row += kStep) {
    const int64_t rows = std::min(kStep, matrix.rows - row);
    QuantizedTensor block(*matrix.format, rows, matrix.cols);
    const auto read = matrix.read(row, rows, block.planes());
    EXPECT_TRUE(read) << read.error().message;
    std::vector<float> stored(static_cast<size_t>(rows) * cols);
    matrix.format->decode_rows(std::as_const(block).planes(), rows, matrix.cols, stored.data());
    for (size_t at = 0; at < stored.size(); at += cols) {
      matrix.transform.row_to_original({&stored[at], cols},
                                       {&values[static_cast<size_t>(row) * cols + at], cols});
    }
  }
  return values;
}

TEST(QuantFixtures, HoldWhatTheLibrariesSay) {
  for (const Fixture& fixture : kFixtures) {
    SCOPED_TRACE(fixture.name);
    const std::string directory = fixture_path(fixture.name);
    const auto checkpoint = Checkpoint::open(directory, Weights::kRequired);
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    const auto reader = open_quant_reader(*checkpoint);
    ASSERT_TRUE(reader && *reader) << (reader ? "no reader" : reader.error().message);
    const Json expected = read_json_file(directory + "/expected.json").value();
    ASSERT_GE(expected.size(), 7u);
    std::set<std::string> formats;
    for (const auto& [name, facts] : expected.items()) {
      SCOPED_TRACE(name);
      const auto rows = facts["shape"][0].get<int64_t>();
      const auto cols = facts["shape"][1].get<int64_t>();
      const auto matrix = (*reader)->find(name, rows, cols);
      ASSERT_TRUE(matrix && *matrix) << (matrix ? "not found" : matrix.error().message);
      formats.insert((*matrix)->format->name);
      const std::vector<float> values = read_values(**matrix);
      size_t at = 0;
      for (const Json& value : facts["every_997th"]) {
        const auto want = value.get<float>();
        ASSERT_LE(std::fabs(values[at] - want), fixture.exact ? 0.0f : 0x1p-22f * std::fabs(want))
            << at;
        at += 997;
      }
      if (!fixture.exact) continue;
      EXPECT_EQ(sha256_hex(std::as_bytes(std::span(values))), facts["sha256"].get<std::string>());
    }
    EXPECT_EQ(formats, fixture.formats);
  }
}

TEST(QuantFixtures, AreAllInTheTable) {
  std::set<std::string> known;
  for (const Fixture& fixture : kFixtures) known.insert(fixture.name);
  for (const auto& entry : fs::directory_iterator(fixture_path("")))
    EXPECT_TRUE(known.contains(entry.path().filename().string())) << entry.path();
}

}  // namespace
}  // namespace quench
