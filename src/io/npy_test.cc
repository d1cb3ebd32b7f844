#include "io/npy.h"

#include <gtest/gtest.h>

#include "io/raw_safetensors.h"

namespace quench {
namespace {

std::string npy(const std::string& dict, const std::string& data) {
  std::string file("\x93NUMPY\x01\0", 8);
  file += static_cast<char>(dict.size());
  file += '\0';
  return file + dict + data;
}

std::string message_of_npy(const std::string& bytes) {
  const auto matrix = parse_npy(bytes_of(bytes), "x");
  return matrix ? "no error" : matrix.error().message;
}

TEST(Npy, StreamedRowsReadBack) {
  ScratchDir dir;
  auto writer = NpyWriter::create(dir.file("a.npy"), 3);
  ASSERT_TRUE(writer);
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, -0.5f, 0, 1e30f};
  ASSERT_TRUE(writer->append_rows(std::span(values).first(3)));
  ASSERT_TRUE(writer->append_rows(std::span(values).subspan(3)));
  EXPECT_FALSE(writer->append_rows(std::span(values).first(2)));
  EXPECT_FALSE(std::filesystem::exists(dir.file("a.npy")));
  ASSERT_TRUE(writer->finish());
  const auto matrix = read_npy(dir.file("a.npy"));
  ASSERT_TRUE(matrix) << matrix.error().message;
  EXPECT_EQ(matrix->num_rows, 3);
  EXPECT_EQ(matrix->num_columns, 3);
  EXPECT_EQ(matrix->values, values);
  EXPECT_EQ(dir.num_files(), 1);
}

TEST(Npy, NoRowsAndNoLeftOvers) {
  ScratchDir dir;
  ASSERT_TRUE(NpyWriter::create(dir.file("b.npy"), 2));
  EXPECT_EQ(dir.num_files(), 0);
  auto writer = NpyWriter::create(dir.file("a.npy"), 2);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(writer->finish());
  EXPECT_EQ(read_npy(dir.file("a.npy"))->num_rows, 0);
}

TEST(Npy, OtherValidHeaders) {
  const std::string one("\0\0\x80\x3f", 4);
  const auto full = parse_npy(
      bytes_of(npy("{'shape': (1,), 'fortran_order': False, 'descr': '<f4'}\n", one)), "x");
  ASSERT_TRUE(full) << full.error().message;
  EXPECT_EQ(full->num_rows, 1);
  EXPECT_EQ(full->values, std::vector<float>{1});
}

TEST(Npy, RefusesOtherThings) {
  const std::string head = "{'descr': '<f4', 'fortran_order': False, ";
  EXPECT_EQ(message_of_npy("PK"), "x: this is not a NumPy .npy file.");
  EXPECT_EQ(message_of_npy(std::string("\x93NUMPY\x01\0\xff\xff..", 12)),
            "x: the header has version 1 and 65535 bytes, expected version 1 to 3 inside 12 "
            "bytes.");
  EXPECT_TRUE(message_of_npy(npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", ""))
                  .ends_with("expected descr '<f4', fortran_order False and a shape."));
  EXPECT_TRUE(message_of_npy(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", ""))
                  .ends_with("expected descr '<f4', fortran_order False and a shape."));
  EXPECT_EQ(message_of_npy(npy(head + "'shape': (1, 2, 3), }", "")),
            "x: the shape is \"(1, 2, 3)\", expected one or two dimensions.");
  EXPECT_EQ(message_of_npy(npy(head + "'shape': (), }", "")),
            "x: the shape is \"()\", expected one or two dimensions.");
  EXPECT_EQ(message_of_npy(npy(head + "'shape': (-1, 2), }", "")),
            "x: the shape is \"(-1, 2)\", expected one or two dimensions.");
  EXPECT_EQ(message_of_npy(npy(head + "'shape': (2, 2), }", "1234")),
            "x: the file holds 4 bytes of data, expected 16 of shape [2, 2].");
  EXPECT_EQ(message_of_npy(npy(head + "'shape': (4611686018427387904, 4), }", "")),
            "x: the file holds 0 bytes of data, expected another number of shape "
            "[4611686018427387904, 4].");
}

}  // namespace
}  // namespace quench
