#include "io/safetensors_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "base/bytes.h"
#include "base/file.h"
#include "io/raw_safetensors.h"
#include "io/safetensors.h"

namespace quench {
namespace {

using Specs = std::vector<NewTensor>;

TEST(SafetensorsWriter, LayoutIsAlignedAndReadsBack) {
  ScratchDir dir;
  const std::string path = dir.file("model.safetensors");
  const Specs specs = {{"codes", Dtype::kU8, {3}},   {"w", Dtype::kBF16, {1, 2}},
                       {"empty", Dtype::kF32, {0}},  {"scale", Dtype::kF32, {}},
                       {"n\"中\n", Dtype::kF4, {2}}, {"w2", Dtype::kBF16, {1}}};
  auto writer = SafetensorsWriter::create(path, specs);
  ASSERT_TRUE(writer) << writer.error().message;
  EXPECT_FALSE(std::filesystem::exists(path));
  // In pieces, in turns, in another order than declared.
  ASSERT_TRUE(writer->append("w2", bytes_of("gh")));
  ASSERT_TRUE(writer->append("codes", bytes_of("a")));
  ASSERT_TRUE(writer->append("w", bytes_of("1234")));
  ASSERT_TRUE(writer->append("codes", bytes_of("bc")));
  ASSERT_TRUE(writer->append("scale", bytes_of("SCAL")));
  ASSERT_TRUE(writer->append("n\"中\n", bytes_of("N")));
  ASSERT_TRUE(writer->append("empty", {}));
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer->finish());
  EXPECT_EQ(dir.num_files(), 1);

  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  const auto header_bytes = load<uint64_t>(file->bytes().data());
  EXPECT_EQ(header_bytes % 8, 0u);
  std::string data;
  for (const TensorEntry& tensor : file->entries()) {
    EXPECT_EQ(tensor.offset_bytes % std::max(dtype_bits(tensor.dtype) / 8, 1), 0);
    data.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  }
  EXPECT_EQ(data, "SCAL1234ghabcN");
  EXPECT_EQ(file->find("w")->shape, (std::vector<int64_t>{1, 2}));
}

TEST(SafetensorsWriter, NothingHalfWrittenStays) {
  ScratchDir dir;
  const Specs specs = {{"a", Dtype::kF32, {2}}, {"b", Dtype::kU8, {1}}};
  {
    auto writer = SafetensorsWriter::create(dir.file("m"), specs);
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->append("a", bytes_of("12345678")));
    EXPECT_FALSE(std::filesystem::exists(dir.file("m")));
    const auto finished = writer->finish();
    ASSERT_FALSE(finished);
    EXPECT_EQ(finished.error().message, dir.file("m") + ": tensor \"b\" got 0 bytes, expected 1.");
  }
  EXPECT_EQ(dir.num_files(), 0);

  dir.write("m", "the old file");
  {
    auto writer = SafetensorsWriter::create(dir.file("m"), specs);
    ASSERT_TRUE(writer);
  }
  EXPECT_EQ(dir.num_files(), 1);
  EXPECT_EQ(*read_file(dir.file("m")), "the old file");
}

TEST(SafetensorsWriter, RefusesMisuse) {
  ScratchDir dir;
  const auto message = [&](const Specs& specs) {
    const auto writer = SafetensorsWriter::create(dir.file("m"), specs);
    return writer ? std::string("no error") : writer.error().message;
  };
  const std::string m = dir.file("m");
  EXPECT_EQ(message({{"a", Dtype::kF4, {3}}}),
            m + ": tensor \"a\" has shape [3] of F4, expected a whole number of bytes below 2^63.");
  EXPECT_EQ(message({{"a", Dtype::kU8, {1}}, {"a", Dtype::kU8, {1}}}),
            m + ": \"a\" cannot be a tensor's name, expected unique UTF-8 names other than "
                "\"__metadata__\".");
  EXPECT_NE(message({{"__metadata__", Dtype::kU8, {1}}}), "no error");
  EXPECT_NE(message({{"\xff", Dtype::kU8, {1}}}), "no error");
  const int64_t half = int64_t{1} << 59;
  EXPECT_NE(message({{"a", Dtype::kU8, {half}}, {"b", Dtype::kU8, {half}}}), "no error");
  EXPECT_FALSE(SafetensorsWriter::create(dir.file("m"), Specs{}, {{"k", "\xff"}}));
  EXPECT_EQ(SafetensorsWriter::create(dir.file("no/m"), Specs{}).error().code,
            ErrorCode::kNotFound);
  EXPECT_EQ(dir.num_files(), 0);

  auto writer = SafetensorsWriter::create(m, Specs{{"a", Dtype::kU8, {2}}});
  ASSERT_TRUE(writer);
  EXPECT_EQ(writer->append("b", bytes_of("1")).error().message,
            m + ": tensor \"b\" was not declared.");
  EXPECT_EQ(writer->append("a", bytes_of("123")).error().message,
            m + ": tensor \"a\" got 3 bytes, expected 2.");
}

// Random tables of tensors, written in random pieces, are read back equal. QUENCH_KEEP_FILES names
// a directory that keeps the files, to show them to another reader.
TEST(SafetensorsWriter, RandomFilesReadBackEqual) {
  ScratchDir dir;
  const char* keep = std::getenv("QUENCH_KEEP_FILES");
  std::mt19937 random(20);
  for (int round = 0; round < 100; ++round) {
    const std::string path =
        (keep != nullptr ? std::string(keep) : dir.path()) + fmt::format("/{}.safetensors", round);
    Specs specs;
    std::vector<std::string> data;
    for (uint32_t i = random() % 12; i > 0; --i) {
      NewTensor spec{
          fmt::format("t{}.{}", i, random() % 100), static_cast<Dtype>(random() % kNumDtypes), {}};
      for (uint32_t d = random() % 4; d > 0; --d) spec.shape.push_back(random() % 6);
      if (dtype_bits(spec.dtype) < 8) spec.shape.push_back(4);
      std::string bytes(static_cast<size_t>(*tensor_bytes(spec.dtype, spec.shape)), '\0');
      for (char& c : bytes) c = static_cast<char>(random());
      specs.push_back(std::move(spec));
      data.push_back(std::move(bytes));
    }
    auto writer = SafetensorsWriter::create(path, specs);
    ASSERT_TRUE(writer) << writer.error().message;
    for (size_t i = 0; i < specs.size(); ++i) {
      for (size_t begin = 0; begin < data[i].size();) {
        const size_t piece = std::min<size_t>(random() % 50 + 1, data[i].size() - begin);
        ASSERT_TRUE(writer->append(specs[i].name, bytes_of(data[i]).subspan(begin, piece)));
        begin += piece;
      }
    }
    ASSERT_TRUE(writer->finish());
    const auto file = SafetensorsFile::open(path);
    ASSERT_TRUE(file) << file.error().message;
    ASSERT_EQ(file->entries().size(), specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      const TensorEntry* tensor = file->find(specs[i].name);
      ASSERT_NE(tensor, nullptr);
      EXPECT_EQ(tensor->dtype, specs[i].dtype);
      EXPECT_EQ(tensor->shape, specs[i].shape);
      EXPECT_TRUE(std::ranges::equal(tensor->data, bytes_of(data[i])));
    }
  }
}

}  // namespace
}  // namespace quench
