#include "io/checkpoint.h"

#include <gtest/gtest.h>

#include "base/sha256.h"
#include "io/check_tensors.h"
#include "io/raw_safetensors.h"

namespace quench {
namespace {

// A safetensors file of one-byte tensors with these names, as bytes.
std::string shard_of(const std::vector<std::string>& names) {
  std::string header = "{";
  for (size_t i = 0; i < names.size(); ++i) {
    header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[1],"data_offsets":[{},{}]}})",
                          i == 0 ? "" : ",", names[i], i, i + 1);
  }
  return raw_safetensors(header + "}", static_cast<int>(names.size()));
}

constexpr const char* kIndex = "model.safetensors.index.json";

// Two shards: a and c in the first, b in the second.
void write_shards(const ScratchDir& dir) {
  dir.write("config.json", R"({"model_type": "qwen2"})");
  dir.write("model-1.safetensors", shard_of({"c", "a"}));
  dir.write("model-2.safetensors", shard_of({"b"}));
  dir.write(kIndex, R"({"metadata":{"total_size":3},"weight_map":{"a":"model-1.safetensors",)"
                    R"("b":"model-2.safetensors","c":"model-1.safetensors"}})");
}

std::string message_of(const std::string& dir, Weights need = Weights::kRequired) {
  const auto checkpoint = Checkpoint::open(dir, need);
  return checkpoint ? "no error" : checkpoint.error().message;
}

TEST(Checkpoint, SingleFile) {
  ScratchDir dir;
  dir.write("config.json", R"({"model_type": "qwen2", "quantization_config": null})");
  dir.write("model.safetensors", shard_of({"b", "a"}));
  const auto checkpoint = Checkpoint::open(dir.path(), Weights::kRequired);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->config()["model_type"], "qwen2");
  EXPECT_EQ(checkpoint->generation_config(), Json::object());
  EXPECT_EQ(checkpoint->quantization_config(), nullptr);
  EXPECT_TRUE(checkpoint->has_weights());
  EXPECT_EQ(checkpoint->weight_bytes(), 2);
  ASSERT_EQ(checkpoint->tensors().size(), 2u);
  EXPECT_EQ(checkpoint->tensors()[0].name, "a");
  EXPECT_EQ(checkpoint->find("a")->data[0], std::byte{1});
  EXPECT_EQ(checkpoint->find("b")->data[0], std::byte{0});
  EXPECT_EQ(checkpoint->find("c"), nullptr);
  checkpoint->drop(*checkpoint->find("a"));
  EXPECT_EQ(checkpoint->find("a")->data[0], std::byte{1});
  EXPECT_EQ(checkpoint->file_path("tokenizer.json"), dir.file("tokenizer.json"));
  EXPECT_EQ(*checkpoint->sha256(), sha256_hex(bytes_of(shard_of({"b", "a"}))));
  const auto slash = Checkpoint::open(dir.path() + "/", Weights::kRequired);
  EXPECT_EQ(slash->file_path("x"), dir.path() + "/x");
}

TEST(Checkpoint, Shards) {
  ScratchDir dir;
  write_shards(dir);
  dir.write("generation_config.json", R"({"top_p": 0.9})");
  auto opened = Checkpoint::open(dir.path(), Weights::kOptional);
  ASSERT_TRUE(opened) << opened.error().message;
  const Checkpoint checkpoint = *std::move(opened);  // entries survive a move
  EXPECT_EQ(checkpoint.generation_config()["top_p"], 0.9);
  ASSERT_EQ(checkpoint.tensors().size(), 3u);
  ASSERT_EQ(checkpoint.files().size(), 2u);
  EXPECT_EQ(checkpoint.find("b")->file_index, 1);
  EXPECT_EQ(checkpoint.find("c")->data[0], std::byte{0});
  EXPECT_EQ(checkpoint.find("a")->data[0], std::byte{1});
  EXPECT_EQ(checkpoint.weight_bytes(), 3);
  // What `sha256sum model-1.safetensors model-2.safetensors | sha256sum` prints.
  const std::string lines = sha256_hex(bytes_of(shard_of({"c", "a"}))) + "  model-1.safetensors\n" +
                            sha256_hex(bytes_of(shard_of({"b"}))) + "  model-2.safetensors\n";
  EXPECT_EQ(*checkpoint.sha256(4), sha256_hex(bytes_of(lines)));
  EXPECT_EQ(*checkpoint.sha256(), sha256_hex(bytes_of(lines)));
}

TEST(Checkpoint, ShardsMayBeSymbolicLinks) {
  ScratchDir dir;
  write_shards(dir);
  dir.write("blobs/0", shard_of({"b"}));
  std::filesystem::remove(dir.file("model-2.safetensors"));
  std::filesystem::create_symlink("blobs/0", dir.file("model-2.safetensors"));
  EXPECT_EQ(message_of(dir.path()), "no error");
}

TEST(Checkpoint, SingleFileWinsOverIndex) {
  ScratchDir dir;
  write_shards(dir);
  dir.write("model.safetensors", shard_of({"x"}));
  const auto checkpoint = Checkpoint::open(dir.path(), Weights::kRequired);
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->tensors().size(), 1u);
  EXPECT_NE(checkpoint->find("x"), nullptr);
}

TEST(Checkpoint, WrongTotalSizeIsNoError) {
  ScratchDir dir;
  write_shards(dir);
  dir.write(kIndex, R"({"metadata":{"total_size":99},"weight_map":{"a":"model-1.safetensors",)"
                    R"("b":"model-2.safetensors","c":"model-1.safetensors"}})");
  EXPECT_EQ(message_of(dir.path()), "no error");
}

TEST(Checkpoint, IndexAndShardsMustAgree) {
  ScratchDir dir;
  write_shards(dir);
  const std::string tail =
      "; the files do not belong together: download all of them again from one revision.";
  dir.write("model-2.safetensors", shard_of({"b", "new"}));
  EXPECT_EQ(message_of(dir.path()), dir.file("model-2.safetensors") +
                                        ": the shard has tensor \"new\", but " + kIndex +
                                        " does not list it" + tail);
  dir.write("model-2.safetensors", shard_of({}));
  EXPECT_EQ(message_of(dir.path()), dir.file("model-2.safetensors") +
                                        ": tensor \"b\" is not in this shard, although " + kIndex +
                                        " says so" + tail);
  dir.write("model-2.safetensors", shard_of({"b", "a"}));
  EXPECT_EQ(message_of(dir.path()), dir.path() +
                                        ": tensor \"a\" is in model-1.safetensors and in "
                                        "model-2.safetensors, expected it in one shard" +
                                        tail);
  dir.write("model-1.safetensors", shard_of({"c"}));
  EXPECT_EQ(message_of(dir.path()), dir.file("model-2.safetensors") +
                                        ": the shard has tensor \"a\", but " + kIndex +
                                        " says it is in model-1.safetensors" + tail);
  dir.write("model-2.safetensors", "x");
  EXPECT_EQ(message_of(dir.path()),
            dir.file("model-2.safetensors") +
                ": the file has 1 bytes, expected a safetensors file, which has at least 10.");
  EXPECT_EQ(message_of(dir.path(), Weights::kOptional), message_of(dir.path()));
  EXPECT_EQ(message_of(dir.path(), Weights::kIgnored), "no error");
}

TEST(Checkpoint, MissingShards) {
  ScratchDir dir;
  write_shards(dir);
  std::filesystem::remove(dir.file("model-2.safetensors"));
  EXPECT_EQ(message_of(dir.path()),
            dir.path() +
                ": 1 of the 2 weight files that model.safetensors.index.json names are not there "
                "(\"model-2.safetensors\"); finish the download.");
  const auto optional = Checkpoint::open(dir.path(), Weights::kOptional);
  ASSERT_TRUE(optional);
  EXPECT_FALSE(optional->has_weights());
  EXPECT_EQ(optional->weight_bytes(), 0);
  EXPECT_EQ(optional->sha256().error().message, dir.path() + ": there are no weights to hash.");
}

TEST(Checkpoint, DirectoriesWithoutUsableWeights) {
  ScratchDir dir;
  dir.write("config.json", "{}");
  EXPECT_EQ(message_of(dir.path()), dir.path() +
                                        ": there are no weights; expected model.safetensors, or "
                                        "model.safetensors.index.json and its shards.");
  EXPECT_EQ(message_of(dir.path(), Weights::kOptional), "no error");
  dir.write("m.gguf", "GGUF");
  EXPECT_EQ(message_of(dir.path()),
            dir.path() + ": this directory holds no Hugging Face model, but there is " +
                dir.file("m.gguf") + "; give that file as the model.");
  dir.write("model-00001-of-00002.safetensors", "");
  EXPECT_EQ(message_of(dir.path()),
            dir.path() +
                ": there is \"model-00001-of-00002.safetensors\", but neither "
                "model.safetensors nor model.safetensors.index.json; download the index "
                "too, or rename a single file to model.safetensors.");
  dir.write("pytorch_model.bin.index.json", "{}");
  const std::string sharded = message_of(dir.path());
  EXPECT_NE(sharded.find("pickles, which can run code"), std::string::npos) << sharded;
  dir.write("pytorch_model.bin", "");
  const auto pickle = Checkpoint::open(dir.path(), Weights::kRequired);
  ASSERT_FALSE(pickle);
  EXPECT_EQ(pickle.error().code, ErrorCode::kUnsupported);
  EXPECT_TRUE(pickle.error().message.starts_with(
      dir.path() +
      ": the weights are only there as pytorch_model.bin, a pickle, which can run "
      "code when it is read; convert it inside that directory: python3 -c \"import "
      "torch, safetensors.torch as s; s.save_file({k: "))
      << pickle.error().message;
}

TEST(Checkpoint, ThingsThatAreNoModelDirectory) {
  ScratchDir dir;
  EXPECT_EQ(message_of(dir.path()),
            dir.path() +
                ": there is no config.json; expected a Hugging Face model directory "
                "(config.json, tokenizer files, *.safetensors).");
  EXPECT_EQ(message_of("Qwen/Qwen2.5-7B"),
            "Qwen/Qwen2.5-7B: there is no such directory; it looks like a Hugging Face model id, "
            "and quench downloads nothing: run `hf download Qwen/Qwen2.5-7B --local-dir "
            "Qwen2.5-7B` and give Qwen2.5-7B as the model.");
  for (const char* path : {"/no/such", "./no", "no", "a/b/c", "~/x", "", "a/", "a/b c"}) {
    EXPECT_EQ(message_of(path),
              std::string(path) +
                  ": there is no such directory; expected a Hugging Face model directory "
                  "(config.json, tokenizer files, *.safetensors).");
  }
  dir.write("x.gguf", "GGUF");
  EXPECT_EQ(message_of(dir.file("x.gguf")),
            dir.file("x.gguf") +
                ": the version at byte 4 takes 4 bytes, but only 0 follow; the file is cut off or "
                "damaged: compare its size with the original and download it again.");
  EXPECT_EQ(message_of(dir.path()),
            dir.path() + ": this directory holds no Hugging Face model, but there is " +
                dir.file("x.gguf") + "; give that file as the model.");
  dir.write("model.safetensors", "");
  EXPECT_EQ(message_of(dir.file("model.safetensors")),
            dir.file("model.safetensors") +
                ": this is no GGUF file, expected one or the directory of a model; perhaps " +
                dir.path() + " is meant.");
  std::filesystem::create_directory(dir.file("snapshots"));
  EXPECT_NE(message_of(dir.path()).find("/snapshots."), std::string::npos);
  dir.write("adapter_config.json", "{}");
  EXPECT_NE(message_of(dir.path()).find("merge it into its base model"), std::string::npos);
}

TEST(Checkpoint, BrokenConfigs) {
  ScratchDir dir;
  dir.write("config.json", "[]");
  EXPECT_EQ(message_of(dir.path(), Weights::kIgnored),
            dir.file("config.json") + ": it holds an array, expected a JSON object.");
  dir.write("config.json", "{");
  EXPECT_TRUE(message_of(dir.path()).starts_with(dir.file("config.json") + ": not valid JSON"));
  dir.write("config.json", R"({"quantization_config": "awq"})");
  EXPECT_EQ(message_of(dir.path()), dir.file("config.json") +
                                        ": \"quantization_config\" is a string, expected an "
                                        "object.");
  dir.write("config.json", R"({"quantization_config": {"quant_method": "awq"}})");
  const auto quantized = Checkpoint::open(dir.path(), Weights::kOptional);
  ASSERT_TRUE(quantized);
  ASSERT_NE(quantized->quantization_config(), nullptr);
  EXPECT_EQ((*quantized->quantization_config())["quant_method"], "awq");
  dir.write("generation_config.json", "1");
  EXPECT_EQ(message_of(dir.path(), Weights::kOptional),
            dir.file("generation_config.json") + ": it holds a number, expected a JSON object.");
}

TEST(Checkpoint, PublishedConfigsOpenWithoutWeights) {
  const std::string data = test_data_dir();
  if (data.empty()) GTEST_SKIP() << "QUENCH_TEST_DATA is not set and there is no shared/data";
  int opened = 0;
  for (const auto& item : std::filesystem::recursive_directory_iterator(data + "/configs")) {
    if (item.path().filename() != "config.json") continue;
    EXPECT_EQ(message_of(item.path().parent_path().string(), Weights::kOptional), "no error");
    ++opened;
  }
  EXPECT_GT(opened, 0);
}

TEST(CheckTensors, NamesWhatDoesNotFit) {
  ScratchDir dir;
  dir.write("config.json", "{}");
  dir.write("model.safetensors", shard_of({"a", "b", "h.0.rotary_emb.inv_freq", "s1", "s2"}));
  const auto checkpoint = Checkpoint::open(dir.path(), Weights::kRequired);
  ASSERT_TRUE(checkpoint);
  const auto inv_freq = [](const std::string& name) {
    return matches_glob(name, "*.rotary_emb.inv_freq");
  };
  const auto all = [&](const std::string& name) {
    return inv_freq(name) || matches_glob(name, "s*");
  };
  const std::vector<ExpectedTensor> good = {{"a", {1}}, {"b", {1}}};
  EXPECT_TRUE(check_tensors(*checkpoint, good, all));
  EXPECT_EQ(check_tensors(*checkpoint, good, inv_freq).error().message,
            dir.path() +
                ": the weights do not fit config.json: 2 not expected (\"s1\", \"s2\"); "
                "check that both come from the same model and that the download is "
                "complete.");
  const std::vector<ExpectedTensor> wrong = {{"a", {1, 2}}, {"b", {1}}, {"w", {1}},
                                             {"x", {1}},    {"y", {1}}, {"z", {1}}};
  const auto error = check_tensors(*checkpoint, wrong, all).error();
  EXPECT_EQ(error.code, ErrorCode::kInvalidFile);
  EXPECT_EQ(error.message,
            dir.path() +
                ": the weights do not fit config.json: missing 4 of 6 tensors (\"w\", "
                "\"x\", \"y\" and 1 more); wrong shape of 1 (\"a\": expected [1, 2], "
                "found [1]); check that both come from the same model and that the "
                "download is complete.");
}

TEST(CheckTensors, Globs) {
  EXPECT_TRUE(matches_glob("", ""));
  EXPECT_TRUE(matches_glob("", "*"));
  EXPECT_TRUE(matches_glob("abc", "abc"));
  EXPECT_TRUE(matches_glob("abc", "*"));
  EXPECT_TRUE(matches_glob("abc", "a*c**"));
  EXPECT_TRUE(matches_glob("a.b.b.c", "*.b.c"));
  EXPECT_FALSE(matches_glob("abc", "ab"));
  EXPECT_FALSE(matches_glob("abc", "*b"));
  EXPECT_FALSE(matches_glob("abc", ""));
  EXPECT_FALSE(matches_glob("abc", "a?c"));  // only '*' is special
}

}  // namespace
}  // namespace quench
