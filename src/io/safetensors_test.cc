#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "io/raw_safetensors.h"

namespace quench {
namespace {

using testing::TempDir;

Result<SafetensorsFile> parse_header(const std::string& header, int data_bytes) {
  // The result must not look into the temporary file's data, and these tests do not.
  const std::string file = raw_safetensors(header, data_bytes);
  return SafetensorsFile::parse(bytes_of(file), "f");
}

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string message_of(const Result<SafetensorsFile>& result) {
  return result ? "no error" : result.error().message;
}

TEST(Safetensors, ReadsEveryDtypeShapeAndMetadata) {
  std::string header = R"({"__metadata__":{"format":"pt","":"Qwen 中文"})";
  int64_t end = 0;
  for (int i = 0; i < kNumDtypes; ++i) {
    const auto dtype = static_cast<Dtype>(i);
    const int64_t begin = end;
    end += dtype_bits(dtype);  // 8 elements
    header += fmt::format(R"(,"t{}":{})", i,
                          entry(fmt::format("\"{}\"", dtype_name(dtype)), "[2, 4]",
                                fmt::format("[{}, {}]", begin, end)));
  }
  const std::string bytes = raw_safetensors(header + "}   ", static_cast<int>(end));
  const auto file = SafetensorsFile::parse(bytes_of(bytes), "f");
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->entries().size(), static_cast<size_t>(kNumDtypes));
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(file->metadata().at(""), "Qwen 中文");
  const std::byte* next = file->entries()[0].data.data();
  for (const TensorEntry& tensor : file->entries()) {
    EXPECT_EQ(tensor.shape, (std::vector<int64_t>{2, 4}));
    EXPECT_EQ(tensor.data.data(), next);
    EXPECT_EQ(bytes_of(bytes).data() + tensor.offset_bytes, next);
    EXPECT_EQ(static_cast<int>(tensor.data.size()), dtype_bits(tensor.dtype));
    EXPECT_EQ(file->find(tensor.name), &tensor);
    next += tensor.data.size();
  }
  EXPECT_EQ(file->find("t"), nullptr);
  EXPECT_EQ(file->find("zzz"), nullptr);
}

TEST(Safetensors, ValidOddForms) {
  EXPECT_TRUE(parse_header("{}", 0));
  EXPECT_TRUE(parse_header("{ \n}\t ", 0));
  // A scalar, and tensors without elements before, between and behind others.
  const std::string u8 = "\"U8\"";
  const auto file = parse_header(
      "{\"d\":" + entry(u8, "[2,0]", "[3,3]") + ",\"c\":" + entry(u8, "[2]", "[1,3]") +
          ",\"b\":" + entry(u8, "[0]", "[1,1]") + ",\"a\":" + entry(u8, "[]", "[0,1]") +
          ",\"e\":" + entry(u8, "[0]", "[0,0]") + "}",
      3);
  ASSERT_TRUE(file) << file.error().message;
  std::string order;
  for (const TensorEntry& tensor : file->entries()) order += tensor.name;
  EXPECT_EQ(order, "eabcd");
  EXPECT_TRUE(file->find("a")->shape.empty());
  // A field that we do not know, an empty name, an escaped name.
  const auto more =
      parse_header(R"({"":{"new":[{}],"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                   R"("\u00e9\n":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                   2);
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_NE(more->find(""), nullptr);
  EXPECT_NE(more->find("é\n"), nullptr);
}

TEST(Safetensors, RefusesBrokenFrames) {
  const auto parse = [](const std::string& bytes) {
    return message_of(SafetensorsFile::parse(bytes_of(bytes), "f"));
  };
  EXPECT_EQ(parse(""),
            "f: the file has 0 bytes, expected a safetensors file, which has at least 10.");
  EXPECT_EQ(parse("1234567"),
            "f: the file has 7 bytes, expected a safetensors file, which has at least 10.");
  EXPECT_EQ(parse(std::string(8, '\xff')),
            "f: the header length is 18446744073709551615 bytes, expected at most 100000000; this "
            "is not a safetensors file, or it is damaged.");
  EXPECT_EQ(parse(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10)),
            "f: the header length is 100000001 bytes, expected at most 100000000; this is not a "
            "safetensors file, or it is damaged.");
  EXPECT_EQ(parse(std::string("\x03\0\0\0\0\0\0\0{}", 10)),
            "f: the header length is 3 bytes, but only 2 follow; the file is cut off or not a "
            "safetensors file: download it again.");
  EXPECT_EQ(parse(std::string(8, '\0')),
            "f: the header starts with nothing, expected \"{\"; this is not a safetensors file, or "
            "it is damaged.");
  EXPECT_EQ(parse("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
            "f: the file is a git-lfs pointer and not the weights; run `git lfs pull` in its "
            "directory.");
  EXPECT_EQ(message_of(parse_header(" {}", 0)),
            "f: the header starts with \" \", expected \"{\"; this is not a safetensors file, or "
            "it is damaged.");
  EXPECT_EQ(message_of(parse_header("[]", 0)),
            "f: the header starts with \"[\", expected \"{\"; this is not a safetensors file, or "
            "it is damaged.");
}

TEST(Safetensors, RefusesBrokenHeaders) {
  const auto has = [](const std::string& header, const std::string& text) {
    const std::string message = message_of(parse_header(header, 4));
    EXPECT_NE(message.find(text), std::string::npos) << header << "\n  " << message;
    EXPECT_TRUE(message.starts_with("f: ") && message.ends_with('.')) << message;
  };
  has("{", "f: the header is not valid JSON (");
  has("{\"a\":1}x", "the header is not valid JSON (");
  has("{\"\xff\":1}", "the header is not valid JSON (");
  has("{}{}", "the header is not valid JSON (");
  has(R"({"a":)" + std::string(50, '[') + std::string(50, ']') + "}",
      "f: the header is nested deeper than 16 levels, expected 3.");
  has(R"({"a":1})",
      "tensor \"a\" is an integer in the header, expected an object with dtype, shape and "
      "data_offsets.");
  const std::string good = entry("\"U8\"", "[4]", "[0,4]");
  EXPECT_TRUE(parse_header("{\"a\":" + good + "}", 4));
  has("{\"a\":" + good + ",\"a\":" + good + "}",
      "tensor \"a\" is in the header twice, expected once.");
  has(R"({"a":{"dtype":"U8","shape":[4]}})", "tensor \"a\" has no \"data_offsets\" in the header");
  has(R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", "tensor \"a\" has no \"shape\"");
  has(R"({"a":{"shape":[4],"data_offsets":[0,4]}})", "tensor \"a\" has no \"dtype\"");
  has(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"shape":[4]}})",
      "tensor \"a\" has \"shape\" twice in the header, expected once.");
  has("{\"a\":" + entry("8", "[4]", "[0,4]") + "}",
      "\"dtype\" is an integer, expected a string such as \"BF16\".");
  has("{\"a\":" + entry("\"Q4_0\"", "[4]", "[0,4]") + "}",
      "tensor \"a\" has dtype \"Q4_0\", expected one of the safetensors format");
  has("{\"a\":" + entry("\"U8\"", "4", "[0,4]") + "}",
      "\"shape\" is an integer, expected an array of integers.");
  has("{\"a\":" + entry("\"U8\"", "[-4]", "[0,4]") + "}",
      "tensor \"a\": \"shape\" has -4, expected integers from 0 to 2^63 - 1.");
  has("{\"a\":" + entry("\"U8\"", "[4.0]", "[0,4]") + "}",
      "\"shape\" has a number that is no integer, expected integers from 0 to 2^63 - 1.");
  has("{\"a\":" + entry("\"U8\"", "[\"4\"]", "[0,4]") + "}", "\"shape\" has a string, expected");
  has("{\"a\":" + entry("\"U8\"", "[4]", "[0,18446744073709551615]") + "}",
      "\"data_offsets\" has 18446744073709551615, expected integers from 0 to 2^63 - 1.");
  has("{\"a\":" + entry("\"U8\"", "[4]", "[0,4.5]") + "}",
      "\"data_offsets\" has a number that is no integer");
  has("{\"a\":" + entry("\"U8\"", "[4]", "[4]") + "}",
      "tensor \"a\" has data_offsets [4], expected [begin, end] with begin <= end.");
  has("{\"a\":" + entry("\"U8\"", "[4]", "[0,4,4]") + "}", "has data_offsets [0, 4, 4], expected");
  has("{\"a\":" + entry("\"U8\"", "[4]", "[4,0]") + "}", "has data_offsets [4, 0], expected");
  has("{\"a\":" + entry("\"U8\"", "[5]", "[0,5]") + "}",
      "tensor \"a\" has data_offsets [0, 5], but the file holds only 4 bytes of data; it is "
      "probably cut off");
  has("{\"a\":" + entry("\"F32\"", "[4]", "[0,4]") + "}",
      "tensor \"a\" has shape [4] of F32, which is 16 bytes, but its data_offsets [0, 4] hold 4 "
      "bytes.");
  has("{\"a\":" + entry("\"U8\"", "[4294967296,4294967296]", "[0,4]") + "}",
      "tensor \"a\" has shape [4294967296, 4294967296] of U8, which is not a whole number of bytes "
      "below 2^63.");
  has("{\"a\":" + entry("\"F64\"", "[2305843009213693952]", "[0,0]") + "}",
      "which is not a whole number of bytes below 2^63.");
  has("{\"a\":" + entry("\"F4\"", "[7]", "[0,4]") + "}", "shape [7] of F4, which is not a whole");
}

TEST(Safetensors, RefusesOverlapsHolesAndTails) {
  const std::string u8 = "\"U8\"";
  EXPECT_EQ(
      message_of(parse_header(
          "{\"a\":" + entry(u8, "[3]", "[0,3]") + ",\"b\":" + entry(u8, "[2]", "[2,4]") + "}", 4)),
      "f: tensor \"b\" starts at data offset 2, but tensor \"a\" before it ends at 3; "
      "expected tensors that do not overlap.");
  EXPECT_EQ(
      message_of(parse_header(
          "{\"a\":" + entry(u8, "[1]", "[0,1]") + ",\"b\":" + entry(u8, "[2]", "[2,4]") + "}", 4)),
      "f: tensor \"b\" starts at data offset 2, but the data before it ends at 1; expected "
      "no hole between tensors.");
  EXPECT_EQ(message_of(parse_header("{\"a\":" + entry(u8, "[3]", "[0,3]") + "}", 4)),
            "f: the tensors end at data offset 3, but the file holds 4 bytes of data; expected "
            "both to be equal.");
  EXPECT_EQ(
      message_of(parse_header(
          "{\"a\":" + entry(u8, "[4]", "[0,4]") + ",\"b\":" + entry(u8, "[0]", "[2,2]") + "}", 4)),
      "f: tensor \"b\" starts at data offset 2, but tensor \"a\" before it ends at 4; "
      "expected tensors that do not overlap.");
}

TEST(Safetensors, RefusesBrokenMetadata) {
  EXPECT_EQ(message_of(parse_header(R"({"__metadata__":[]})", 0)),
            "f: \"__metadata__\" is an array, expected an object that maps strings to strings.");
  EXPECT_EQ(message_of(parse_header(R"({"__metadata__":{"a":1}})", 0)),
            "f: \"__metadata__\" has an integer for \"a\", expected a string.");
  EXPECT_EQ(message_of(parse_header(R"({"__metadata__":{"a":"","a":""}})", 0)),
            "f: \"__metadata__\" has the key \"a\" twice.");
  EXPECT_EQ(message_of(parse_header(R"({"__metadata__":{},"__metadata__":{}})", 0)),
            "f: the header has \"__metadata__\" twice, expected once.");
}

TEST(Safetensors, NamesInMessagesAreHarmless) {
  const std::string header = R"({"\u001b[2Jx":1})";
  EXPECT_EQ(message_of(parse_header(header, 0)).substr(0, 22), "f: tensor \"\\x1b[2Jx\" i");
  const std::string message = message_of(parse_header("{\"" + std::string(5000, 'x') + "\":1}", 0));
  EXPECT_LT(message.size(), 300u);
}

TEST(Safetensors, OpenNamesTheFile) {
  ScratchDir dir;
  const auto missing = SafetensorsFile::open(dir.file("no.safetensors"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(missing.error().message.starts_with(dir.file("no.safetensors")));
  dir.write("empty.safetensors", "");
  EXPECT_EQ(SafetensorsFile::open(dir.file("empty.safetensors")).error().code,
            ErrorCode::kInvalidFile);
}

TEST(Safetensors, MovedFileKeepsItsEntries) {
  ScratchDir dir;
  dir.write("a", raw_safetensors("{\"a\":" + entry("\"U8\"", "[4]", "[0,4]") + "}", 4));
  auto opened = SafetensorsFile::open(dir.file("a"));
  ASSERT_TRUE(opened);
  SafetensorsFile moved = *std::move(opened);
  EXPECT_EQ(moved.find("a")->data[3], std::byte{3});
  const MappedFile mapping = moved.release();
  mapping.drop(0, static_cast<int64_t>(mapping.bytes().size()));
  EXPECT_EQ(moved.find("a")->data[3], std::byte{3});
}

TEST(Safetensors, ThirdPartyFiles) {
  const std::string data = test_data_dir();
  if (data.empty()) GTEST_SKIP() << "QUENCH_TEST_DATA is not set and there is no shared/data";
  struct Case {
    const char* file;
    Dtype dtype;
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  const Case cases[] = {
      {"tensor-1d-int32", Dtype::kI32, {3}, {1, 2, 3}},
      {"tensor-2d-float64", Dtype::kF64, {2, 3}, {1, 2, 3, 24, 25, 26}},
      {"tensor-3d-float32", Dtype::kF32, {2, 2, 3}, {22, 23, 24, 11, 12, 13, 2, 3, 4, 1, 2, 3}},
      {"tensor-4d-float32",
       Dtype::kF32,
       {2, 3, 1, 3},
       {11, 12, 13, 1, 2, 3, 4, 5, 6, 22, 23, 24, 15, 16, 17, 17, 18, 19}},
  };
  for (const Case& expected : cases) {
    const auto file =
        SafetensorsFile::open(data + "/weights/format-fixtures/" + expected.file + ".safetensors");
    ASSERT_TRUE(file) << file.error().message;
    const TensorEntry* tensor = file->find("embedding");
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->dtype, expected.dtype);
    EXPECT_EQ(tensor->shape, expected.shape);
    std::vector<float> values(expected.values.size());
    ASSERT_TRUE(decode_to_f32(tensor->dtype, tensor->data, 0, values));
    EXPECT_EQ(values, expected.values);
  }
}

// Any single changed byte, and any cut, of a valid file: an answer, no crash (the sanitizer build
// looks closer), and tensors inside the bytes.
TEST(Safetensors, MutationsNeverCrash) {
  const std::string valid = raw_safetensors(R"({"__metadata__":{"format":"pt"},"a.weight":)" +
                                                entry("\"BF16\"", "[2,3]", "[0,12]") +
                                                ",\"b\":" + entry("\"F4\"", "[2]", "[12,13]") + "}",
                                            13);
  ASSERT_TRUE(SafetensorsFile::parse(bytes_of(valid), "f"));
  const auto check = [](const std::string& bytes) {
    const auto file = SafetensorsFile::parse(bytes_of(bytes), "f");
    if (!file) return;
    for (const TensorEntry& tensor : file->entries()) {
      ASSERT_LE(tensor.offset_bytes + static_cast<int64_t>(tensor.data.size()),
                static_cast<int64_t>(bytes.size()));
    }
  };
  for (size_t i = 0; i < valid.size(); ++i) {
    check(valid.substr(0, i));
    for (int byte = 0; byte < 256; ++byte) {
      std::string changed = valid;
      changed[i] = static_cast<char>(byte);
      check(changed);
    }
  }
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string changed = valid;
    for (uint32_t edits = random() % 4 + 1; edits > 0; --edits) {
      const size_t at = random() % changed.size();
      if (random() % 3 == 0) {
        changed.erase(at, random() % 4);
      } else {
        changed.insert(at, 1, "0123456789[]{}\",:-.e"[random() % 20]);
      }
      if (changed.empty()) break;
    }
    check(changed);
  }
}

TEST(Safetensors, HeaderOfAHundredThousandTensorsIsFast) {
  std::string header = "{";
  constexpr int kTensors = 100000;
  for (int i = 0; i < kTensors; ++i) {
    header += fmt::format(R"({}"model.layers.{}.mlp.experts.{}.down_proj.weight":)",
                          i == 0 ? "" : ",", i / 128, i % 128);
    header += entry("\"U8\"", "[1]", fmt::format("[{},{}]", i, i + 1));
  }
  const std::string bytes = raw_safetensors(header + "}", kTensors);
  const auto begin = std::chrono::steady_clock::now();
  const auto file = SafetensorsFile::parse(bytes_of(bytes), "f");
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->entries().size(), static_cast<size_t>(kTensors));
  RecordProperty("parse_s", fmt::format("{:.3f}", took.count()));
  EXPECT_LT(took.count(), 5.0);  // a loaded machine with sanitizers; 0.1 s otherwise
}

}  // namespace
}  // namespace quench
