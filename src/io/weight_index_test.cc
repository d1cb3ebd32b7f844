#include "io/weight_index.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "io/raw_safetensors.h"

namespace quench {
namespace {

std::string message_of_index(const std::string& text) {
  const auto index = parse_weight_index(text, "i");
  return index ? "no error" : index.error().message;
}

TEST(WeightIndex, ReadsTheMap) {
  const auto index = parse_weight_index(
      R"({"metadata": {"total_size": 12, "more": []}, "weight_map": {"a": "model-1.safetensors",)"
      R"( "b": "part/model-2.safetensors"}, "other": 1})",
      "i");
  ASSERT_TRUE(index) << index.error().message;
  EXPECT_EQ(index->total_size_bytes, 12);
  EXPECT_EQ(index->weight_map.at("a"), "model-1.safetensors");
  EXPECT_EQ(index->weight_map.at("b"), "part/model-2.safetensors");
}

TEST(WeightIndex, TotalSizeIsOptional) {
  for (const char* metadata :
       {"", R"("metadata":{},)", R"("metadata":null,)", R"("metadata":[],)",
        R"("metadata":{"total_size":1.5},)", R"("metadata":{"total_size":-1},)",
        R"("metadata":{"total_size":"1"},)"}) {
    const auto index = parse_weight_index(
        std::string("{") + metadata + R"("weight_map":{"a":"a.safetensors"}})", "i");
    ASSERT_TRUE(index) << metadata << index.error().message;
    EXPECT_FALSE(index->total_size_bytes) << metadata;
  }
}

TEST(WeightIndex, RefusesBrokenForms) {
  EXPECT_TRUE(message_of_index("").starts_with("i: it is not valid JSON ("));
  EXPECT_TRUE(message_of_index("{").starts_with("i: it is not valid JSON ("));
  EXPECT_EQ(message_of_index("[]"), "i: it is an array, expected a JSON object.");
  EXPECT_EQ(message_of_index("{}"),
            "i: it has no \"weight_map\", expected an object that maps tensors to shard files.");
  EXPECT_EQ(message_of_index(R"({"weight_map":1})"),
            "i: \"weight_map\" is an integer, expected an object that maps tensors to shard "
            "files.");
  EXPECT_EQ(message_of_index(R"({"weight_map":{}})"),
            "i: \"weight_map\" is empty, expected the tensors.");
  EXPECT_EQ(message_of_index(R"({"weight_map":{"a":1}})"),
            "i: \"weight_map\" has an integer for tensor \"a\", expected the name of a shard "
            "file.");
  EXPECT_EQ(message_of_index(R"({"weight_map":{"a":"a.safetensors","a":"b.safetensors"}})"),
            "i: \"weight_map\" has tensor \"a\" twice, expected once.");
  const std::string map = R"("weight_map":{"a":"a.safetensors"})";
  EXPECT_EQ(message_of_index("{" + map + "," + map + "}"),
            "i: it has \"weight_map\" twice, expected once.");
  EXPECT_EQ(message_of_index("{" + map + R"(,"metadata":{},"metadata":{}})"),
            "i: it has \"metadata\" twice, expected once.");
}

TEST(WeightIndex, RefusesShardsOutsideTheDirectory) {
  for (const char* shard :
       {"../a.safetensors", "/a.safetensors", "x/../../a.safetensors", "./a.safetensors",
        "x//a.safetensors", "", ".safetensors", "a.bin", "pytorch_model.bin", "..",
        "a\\\\b.safetensors", "a\\u0000.safetensors", "a.safetensors/", "x/..safetensors/.."}) {
    const std::string message =
        message_of_index(std::string(R"({"weight_map":{"t":")") + shard + "\"}}");
    EXPECT_TRUE(message.starts_with("i: tensor \"t\" is said to be in \"") &&
                message.ends_with("\", expected a .safetensors file inside the model directory."))
        << shard << ": " << message;
  }
}

TEST(WeightIndex, PublishedIndexes) {
  const std::string data = test_data_dir();
  if (data.empty()) GTEST_SKIP() << "QUENCH_TEST_DATA is not set and there is no shared/data";
  int read = 0;
  for (const auto& item : std::filesystem::recursive_directory_iterator(data + "/configs")) {
    if (item.path().filename() != "model.safetensors.index.json") continue;
    const auto text = read_file(item.path().string());
    ASSERT_TRUE(text);
    const auto index = parse_weight_index(*text, item.path().string());
    ASSERT_TRUE(index) << index.error().message;
    EXPECT_GT(index->weight_map.size(), 100u);
    EXPECT_TRUE(index->total_size_bytes);
    ++read;
  }
  if (read == 0) GTEST_SKIP() << data << " has no model.safetensors.index.json";
}

}  // namespace
}  // namespace quench
