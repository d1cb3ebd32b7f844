// Every writer with every format that it accepts: what is written is read back as the same format
// with the same planes and the same transform, from a checkpoint that quench itself opens.
#include "io/quant_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "io/raw_safetensors.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

constexpr const char* kName = "model.layers.0.mlp.up_proj.weight";

QuantizedTensor random_matrix(const Format& format, int64_t rows, int64_t cols) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal(0.001f, 0.02f);
  std::vector<float> x(static_cast<size_t>(rows * cols));
  for (float& value : x) value = normal(generator);
  QuantizedTensor tensor(format, rows, cols);
  format.encode_rows(x.data(), rows, cols, tensor.planes());
  return tensor;
}

// A checkpoint directory of these tensors, as the pipeline writes it.
void write_checkpoint(const ScratchDir& scratch, const std::vector<EncodedTensor>& tensors,
                      const Json& config) {
  std::vector<NewTensor> declared;
  for (const EncodedTensor& tensor : tensors) declared.push_back(tensor.tensor);
  auto writer = SafetensorsWriter::create(scratch.file("model.safetensors"), declared);
  ASSERT_TRUE(writer) << writer.error().message;
  for (const EncodedTensor& tensor : tensors) {
    const auto appended = writer->append(tensor.tensor.name, tensor.data);
    ASSERT_TRUE(appended) << appended.error().message;
  }
  const auto finished = writer->finish();
  ASSERT_TRUE(finished) << finished.error().message;
  scratch.write("config.json", Json{{"quantization_config", config}}.dump());
}

// All planes of what the reader found, row block by row block.
QuantizedTensor read_all(const StoredMatrix& stored) {
  const Format& format = *stored.format;
  QuantizedTensor tensor(format, stored.rows, stored.cols);
  const Planes planes = tensor.planes();
  if (stored.planes[0] != nullptr) {
    for (size_t p = 0; p < format.planes.size(); ++p) {
      std::memcpy(
          planes[p], stored.planes[p],
          static_cast<size_t>(format.plane_bytes(static_cast<int>(p), stored.rows, stored.cols)));
    }
    return tensor;
  }
  const int64_t step = 3 * format.tile_rows;
  for (int64_t row = 0; row < stored.rows; row += step) {
    const auto result = stored.read(row, std::min(step, stored.rows - row),
                                    format.row_planes(planes, row, stored.cols));
    EXPECT_TRUE(result) << result.error().message;
  }
  return tensor;
}

// The values of the model's own columns.
std::vector<float> values_of(const QuantizedTensor& matrix, const InputTransform& transform) {
  const auto cols = static_cast<size_t>(matrix.cols());
  std::vector<float> stored(static_cast<size_t>(matrix.rows()) * cols);
  matrix.format().decode_rows(matrix.planes(), matrix.rows(), matrix.cols(), stored.data());
  std::vector<float> values(stored.size());
  for (size_t at = 0; at < values.size(); at += cols)
    transform.row_to_original({&stored[at], cols}, {&values[at], cols});
  return values;
}

InputTransform transform_of(InputTransform::Kind kind, int64_t cols) {
  if (kind == InputTransform::Kind::kNone) return {};
  if (kind == InputTransform::Kind::kHadamard) return InputTransform::hadamard(cols, 5);
  std::vector<int32_t> order(static_cast<size_t>(cols));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(3));
  return InputTransform::permute(std::move(order));
}

void expect_equal(const std::vector<float>& found, const std::vector<float>& expected,
                  float relative) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_LE(std::fabs(found[i] - expected[i]), relative * std::fabs(expected[i])) << i;
}

TEST(QuantWriter, WhatIsWrittenIsReadBackExactly) {
  constexpr int64_t kRows = 128;
  constexpr int64_t kCols = 256;
  int cases = 0;
  for (const QuantWriter* writer : all_quant_writers()) {
    int accepted = 0;
    for (const Format& format : all_formats()) {
      for (const auto kind : {InputTransform::Kind::kNone, InputTransform::Kind::kPermutation,
                              InputTransform::Kind::kHadamard}) {
        if (format.encode == nullptr || !writer->accepts(format, kRows, kCols, kind)) continue;
        // The transform and the format know nothing of each other: a few pairs are enough.
        if (kind != InputTransform::Kind::kNone && format.bits > 4) continue;
        SCOPED_TRACE(fmt::format("{} {} {}", writer->name, format.name, static_cast<int>(kind)));
        const ScratchDir scratch;
        QuantizedTensor matrix = random_matrix(format, kRows, kCols);
        const InputTransform transform = transform_of(kind, kCols);
        const std::vector<float> before = values_of(matrix, transform);
        auto tensors = writer->write(kName, matrix, transform);
        ASSERT_TRUE(tensors) << tensors.error().message;
        expect_equal(values_of(matrix, transform), before, writer->rounds ? 0.03f : 0.0f);
        EXPECT_EQ(values_of(matrix, transform) != before, writer->rounds);
        // Files are laid out by what a matrix of zeros becomes.
        QuantizedTensor zeros(format, kRows, kCols);
        const auto layout = writer->write(kName, zeros, transform);
        ASSERT_TRUE(layout) << layout.error().message;
        ASSERT_EQ(layout->size(), tensors->size());
        for (size_t i = 0; i < tensors->size(); ++i) {
          EXPECT_EQ((*layout)[i].tensor.name, (*tensors)[i].tensor.name);
          EXPECT_EQ((*layout)[i].tensor.shape, (*tensors)[i].tensor.shape);
          EXPECT_EQ((*layout)[i].data.size(), (*tensors)[i].data.size());
        }
        const WrittenMatrix written{kName, &format, kRows, kCols, kind};
        const auto config = writer->config(std::span(&written, 1));
        ASSERT_TRUE(config) << config.error().message;
        write_checkpoint(scratch, *tensors, *config);

        const auto checkpoint = Checkpoint::open(scratch.path(), Weights::kRequired);
        ASSERT_TRUE(checkpoint) << checkpoint.error().message;
        const auto reader = open_quant_reader(*checkpoint);
        ASSERT_TRUE(reader) << reader.error().message;
        const auto stored = (*reader)->find(kName, kRows, kCols);
        ASSERT_TRUE(stored) << stored.error().message;
        ASSERT_TRUE(*stored) << "not found";
        EXPECT_EQ((*stored)->entries.size(), tensors->size()) << "a tensor belongs to nothing";
        // A permutation may come back with another order within the groups.
        const QuantizedTensor found = read_all(**stored);
        EXPECT_EQ(found.format().name, format.name);
        expect_equal(values_of(found, (*stored)->transform), values_of(matrix, transform),
                     writer->name == std::string("bnb_int8") ? 0x1p-23f : 0.0f);
        ++accepted;
      }
    }
    EXPECT_GT(accepted, 0) << writer->name << " accepts no format";
    cases += accepted;
  }
  EXPECT_GT(cases, 80);
}

TEST(QuantWriter, UnknownNamesListTheKnown) {
  const auto writer = require_quant_writer("gguf9");
  ASSERT_FALSE(writer);
  EXPECT_NE(writer.error().message.find("quench"), std::string::npos);
  EXPECT_EQ(require_quant_writer("quench").value()->name, std::string("quench"));
}

}  // namespace
}  // namespace quench
