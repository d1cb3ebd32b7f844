// The reader against files of the Python package gguf (tests/gguf, tools/make_gguf_fixtures.py),
// against damaged copies of them, and the writer against the reader.
#include "io/gguf.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/bytes.h"
#include "formats/format.h"
#include "io/checkpoint.h"
#include "io/gguf_model.h"
#include "io/gguf_names.h"
#include "io/gguf_writer.h"
#include "io/raw_safetensors.h"

namespace quench {
namespace {

std::string fixture(const std::string& name) { return source_path("tests/gguf/" + name); }

const GgufTensor* find_tensor(const GgufFile& file, std::string_view name) {
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

TEST(Gguf, EveryTypeDecodesToTheValuesOfTheReference) {
  const auto file = GgufFile::open(fixture("types.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  int num_types = 0;
  for (const GgufTensor& tensor : file->tensors()) {
    if (tensor.name.ends_with(".values")) continue;
    const GgufTensor* values = find_tensor(*file, std::string(tensor.name) + ".values");
    ASSERT_NE(values, nullptr);
    const Format* format = find_format(tensor.type->format);
    ASSERT_NE(format, nullptr) << tensor.name;
    ASSERT_EQ(format->name, tensor.name);
    const int64_t rows = tensor.shape[0];
    const int64_t cols = tensor.shape[1];
    ASSERT_EQ(format->matrix_bytes(rows, cols), static_cast<int64_t>(tensor.data.size()));
    std::vector<float> decoded(static_cast<size_t>(rows * cols));
    format->decode_rows(ConstPlanes{tensor.data.data()}, rows, cols, decoded.data());
    for (size_t i = 0; i < decoded.size(); ++i) {
      // By value: 0 may have either sign.
      ASSERT_EQ(decoded[i], load<float>(values->data.data() + 4 * i)) << tensor.name << " at " << i;
    }
    num_types += 1;
  }
  EXPECT_EQ(num_types, 17);
}

// What an integer kernel reads of a block is what decode() gives.
TEST(Gguf, GridsAgreeWithDecode) {
  const auto file = GgufFile::open(fixture("types.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  int num_grids = 0;
  for (const GgufTensor& tensor : file->tensors()) {
    const Format* format = find_format(tensor.name);
    if (format == nullptr || format->grid.read == nullptr) continue;
    const Grid& grid = format->grid;
    const int64_t cols = format->tile_cols;
    uint8_t codes[256];
    GridScales scales;
    float values[256];
    const ConstPlanes tile{tensor.data.data()};
    grid.read(*format, tile, cols, codes, &scales);
    format->decode(*format, tile, cols, values, cols);
    for (int64_t i = 0; i < cols; ++i) {
      float scale = scales.scale;
      float min = grid.has_min ? scales.min : 0.0f;
      if (grid.small_scales > 0) {
        const int64_t group = i / grid.small_scales;
        scale *= static_cast<float>(scales.group_scale[group]);
        min *= static_cast<float>(scales.group_min[group]);
      }
      const float level = grid.levels != nullptr
                              ? grid.levels[codes[i]]
                              : static_cast<float>(static_cast<int>(codes[i]) - scales.zero);
      EXPECT_EQ(scale * level - min, values[i]) << format->name;
    }
    // The way back, byte for byte.
    std::vector<std::byte> block(static_cast<size_t>(format->matrix_bytes(1, cols)));
    grid.write(*format, codes, cols, scales, Planes{block.data()});
    EXPECT_TRUE(std::equal(block.begin(), block.end(), tensor.data.begin())) << format->name;
    num_grids += 1;
  }
  EXPECT_EQ(num_grids, 12);  // all but the IQ2 and IQ3 types
}

TEST(Gguf, EveryKindOfKey) {
  const auto file = GgufFile::open(fixture("types.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  const std::pair<const char*, Json> values[] = {
      {"uint8", 200},
      {"int8", -100},
      {"uint16", 60000},
      {"int16", -30000},
      {"uint32", 4000000000u},
      {"int32", -2000000000},
      {"float32", 0.25},
      {"uint64", (uint64_t{1} << 63) + 1},
      {"int64", -(int64_t{1} << 62)},
      {"float64", 1e300},
      {"bool", true},
      {"string", "h\u00e9llo"},
      {"strings", nullptr},  // arrays have functions of their own
      {"absent", nullptr},
  };
  for (const auto& [key, value] : values)
    EXPECT_EQ(file->value(std::string("test.") + key), value) << key;
  EXPECT_EQ(**file->strings("test.strings"), (std::vector<std::string>{"a", "", "你好"}));
  EXPECT_EQ(**file->integers("test.integers"), (std::vector<int64_t>{1, -2, 3}));
  EXPECT_EQ(*file->strings("test.absent"), std::nullopt);
  EXPECT_EQ(file->integers("test.numbers").error().message,
            file->path() +
                ": the value of \"test.numbers\" is an array of f32, expected an array "
                "of integers.");
  EXPECT_FALSE(file->strings("test.bool"));
  EXPECT_FALSE(file->integers("test.booleans"));
}

std::string error_of(const std::string& bytes) {
  const auto file = GgufFile::parse(bytes_of(bytes), "x");
  return file ? "" : file.error().message;
}

// A file cut off anywhere is an error, and never more than that.
TEST(Gguf, EveryPrefixIsRefused) {
  const std::string bytes = *read_file(fixture("qwen3_tied_f16.gguf"));
  ASSERT_EQ(error_of(bytes), "");
  for (size_t size = 0; size + 32 < bytes.size(); size += size < 4000 ? 1 : 501) {
    ASSERT_NE(error_of(bytes.substr(0, size)), "") << size;
  }
}

// version, tensors, keys, then what follows.
std::string header(uint32_t version, uint64_t tensors, uint64_t keys, const std::string& rest) {
  std::string bytes = "GGUF";
  bytes.append(reinterpret_cast<const char*>(&version), 4);
  bytes.append(reinterpret_cast<const char*>(&tensors), 8);
  bytes.append(reinterpret_cast<const char*>(&keys), 8);
  return bytes + rest;
}
template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}
std::string raw_string(const std::string& text) { return raw<uint64_t>(text.size()) + text; }

std::string tensor(const std::string& name, const std::vector<int64_t>& extents, uint32_t type,
                   int64_t offset) {
  std::string bytes = raw_string(name) + raw(static_cast<uint32_t>(extents.size()));
  for (const int64_t extent : extents) bytes += raw(extent);
  return bytes + raw(type) + raw(offset);
}

TEST(Gguf, WrongFilesAreNamed) {
  const std::string pad(200, '\0');
  const std::string no_tensors = header(3, 0, 0, "");
  EXPECT_EQ(error_of(no_tensors), "");
  EXPECT_EQ(error_of("PK\3\4" + pad),
            "x: the file starts with \"PK\\x03\\x04\", expected \"GGUF\"; this is not a GGUF "
            "file.");
  EXPECT_EQ(error_of(header(1, 0, 0, pad)),
            "x: GGUF version 1, expected 2 or 3; download a newer file of the model.");
  EXPECT_NE(error_of(header(0x03000000, 0, 0, pad)).find("big-endian"), std::string::npos);
  EXPECT_EQ(error_of(header(3, uint64_t{1} << 60, 0, pad)),
            "x: the header counts 1152921504606846976 tensors and 0 keys, more than 200 bytes can "
            "hold; the file is cut off or damaged.");
  const std::string twice = raw_string("k") + raw<uint32_t>(7) + '\1';
  EXPECT_EQ(error_of(header(3, 0, 2, twice + twice + pad)),
            "x: the key \"k\" is there twice, expected once.");
  EXPECT_EQ(
      error_of(header(3, 0, 1, raw_string("k") + raw<uint32_t>(13) + pad)),
      "x: the value of \"k\" is of type 13 at byte 33, expected one of the 13 types of GGUF.");
  const std::string array = raw_string("k") + raw<uint32_t>(9);
  EXPECT_NE(error_of(header(3, 0, 1, array + raw<uint32_t>(9) + raw<uint64_t>(1) + pad))
                .find("array of arrays"),
            std::string::npos);
  EXPECT_NE(error_of(header(3, 0, 1, array + raw<uint32_t>(10) + raw(~uint64_t{0}) + pad))
                .find("has 18446744073709551615 elements, but only 200 bytes follow"),
            std::string::npos);
  EXPECT_NE(error_of(header(3, 0, 1, raw(~uint64_t{0}) + pad)).find("takes"), std::string::npos);
  const std::string alignment = raw_string("general.alignment") + raw<uint32_t>(4);
  EXPECT_EQ(error_of(header(3, 0, 1, alignment + raw<uint32_t>(24) + pad)),
            "x: general.alignment is 24, expected a power of two up to 1048576.");
  EXPECT_EQ(error_of(header(3, 0, 1, alignment + raw<uint32_t>(64))), "");
}

TEST(Gguf, WrongTensorsAreNamed) {
  const std::string pad(400, '\0');
  const auto error = [&](const std::vector<std::string>& tensors) {
    std::string rest;
    for (const std::string& t : tensors) rest += t;
    return error_of(header(3, tensors.size(), 0, rest + pad));
  };
  EXPECT_EQ(error({tensor("a", {4, 2}, 0, 0), tensor("b", {32}, 8, 32)}), "");
  EXPECT_EQ(error({tensor("a", {1, 1, 1, 1, 1}, 0, 0)}),
            "x: tensor \"a\" has 5 dimensions, expected at most 4.");
  EXPECT_EQ(error({tensor("a", {32}, 4, 0)}),
            "x: tensor \"a\" is of type 4, which is not one of ggml's that quench knows.");
  EXPECT_EQ(error({tensor("a", {33}, 8, 0)}),
            "x: tensor \"a\" has shape [33] of Q8_0, which is not a whole number of blocks of 32 "
            "below 2^63 bytes.");
  for (const std::vector<int64_t>& extents :
       {std::vector<int64_t>{int64_t{1} << 62, 4}, {-4, 1}, {1, int64_t{1} << 61, 8}}) {
    EXPECT_NE(error({tensor("a", extents, 0, 0)}).find("not a whole number"), std::string::npos);
  }
  EXPECT_NE(error({tensor("a", {4}, 0, 0), tensor("a", {4}, 0, 32)}).find("there twice"),
            std::string::npos);
  EXPECT_EQ(
      error({tensor("a", {16}, 0, 0), tensor("b", {4}, 0, 32)}),
      "x: tensor \"b\" starts at data offset 32, expected a multiple of 32 that is not before "
      "64, where the tensor before it ends.");
  for (const int64_t offset : {int64_t{8}, int64_t{-32}, int64_t{1} << 40, INT64_MAX - 31})
    EXPECT_NE(error({tensor("a", {4}, 0, offset)}), "") << offset;
}

TEST(GgufNames, BothWays) {
  const GgufFamily& moe = *find_gguf_family("qwen2moe");
  const auto place = gguf_place(moe, "model.layers.31.mlp.experts.59.down_proj.weight");
  ASSERT_TRUE(place);
  EXPECT_EQ(place->name, "blk.31.ffn_down_exps.weight");
  EXPECT_EQ(place->expert, 59);
  EXPECT_EQ(hf_name_of(moe, place->name, 59), "model.layers.31.mlp.experts.59.down_proj.weight");
  EXPECT_EQ(hf_name_of(moe, "blk.0.attn_q.bias", 0), "model.layers.0.self_attn.q_proj.bias");
  const GgufFamily& qwen1 = *gguf_family_of("QWenLMHeadModel");
  EXPECT_EQ(gguf_place(qwen1, "transformer.h.7.mlp.w2.weight")->name, "blk.7.ffn_gate.weight");
  EXPECT_EQ(gguf_place(qwen1, "transformer.h.7.attn.c_attn.bias")->name, "blk.7.attn_qkv.bias");
  for (const char* name : {"blk.01.attn_q.weight", "blk..attn_q.weight", "blk.0.attn_q",
                           "blk.0.attn_qq.weight", "blk.9999999999.attn_q.weight", ""})
    EXPECT_EQ(hf_name_of(moe, name, 0), std::nullopt) << name;
}

TEST(GgufModel, PartsOfASplitModel) {
  EXPECT_EQ(gguf_part_paths("d/m.gguf"), (std::vector<std::string>{"d/m.gguf"}));
  EXPECT_EQ(gguf_part_paths("d/m-00002-of-00003.gguf"),
            (std::vector<std::string>{"d/m-00001-of-00003.gguf", "d/m-00002-of-00003.gguf",
                                      "d/m-00003-of-00003.gguf"}));
  for (const char* path : {"m-00004-of-00003.gguf", "m-00000-of-00003.gguf", "m-0001-of-00003.gguf",
                           "m-00001-of-0000x.gguf"})
    EXPECT_EQ(gguf_part_paths(path), (std::vector<std::string>{path}));
}

// The experts of a stack are tensors of their own, and the file says that they are quantized.
TEST(GgufModel, StacksBecomeExperts) {
  ScratchDir dir;
  GgufKeys keys;
  keys.add_string("general.architecture", "qwen3moe");
  const GgmlType* type = ggml_type_of_format("q8_0");
  const std::vector<NewGgufTensor> tensors = {
      {"blk.0.ffn_up_exps.weight", type, {3, 2, 32}},
      {"blk.0.attn_norm.weight", ggml_type_of_format("f32"), {4}},
  };
  auto writer = GgufWriter::create(dir.file("m.gguf"), keys, tensors);
  ASSERT_TRUE(writer) << writer.error().message;
  std::string data;
  for (int i = 0; i < 3 * 2 * 34; ++i) data += static_cast<char>(i);
  ASSERT_TRUE(writer->append("blk.0.ffn_up_exps.weight", bytes_of(data)));
  EXPECT_FALSE(writer->finish());  // the norm is missing
  ASSERT_TRUE(writer->append("blk.0.attn_norm.weight", bytes_of("0123456789abcdef")));
  ASSERT_TRUE(writer->finish());
  const auto checkpoint = Checkpoint::open(dir.file("m.gguf"), Weights::kRequired);
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ(checkpoint->config()["quantization_config"]["quant_method"], "quench");
  EXPECT_EQ(checkpoint->config()["norm_topk_prob"], true);
  ASSERT_EQ(checkpoint->tensors().size(), 4u);
  const TensorEntry* expert =
      checkpoint->find("model.layers.0.mlp.experts.2.up_proj.weight.q8_0.blocks");
  ASSERT_NE(expert, nullptr);
  EXPECT_EQ(expert->shape, (std::vector<int64_t>{2, 34}));
  EXPECT_EQ(expert->data[0], static_cast<std::byte>(2 * 2 * 34));
  EXPECT_EQ(checkpoint->find("model.layers.0.input_layernorm.weight")->shape,
            (std::vector<int64_t>{4}));
  EXPECT_EQ(checkpoint->files().size(), 1u);
}

TEST(GgufModel, WhatItCannotReadIsNamed) {
  ScratchDir dir;
  const auto error = [&](const char* architecture, uint32_t type) {
    GgufKeys keys;
    keys.add_string("general.architecture", architecture);
    const std::vector<NewGgufTensor> tensors = {
        {"token_embd.weight", find_ggml_type(type), {1, 256}}};
    auto writer = GgufWriter::create(dir.file("m.gguf"), keys, tensors);
    const std::string zeros(2048, '\0');
    const auto size =
        static_cast<size_t>(256 / tensors[0].type->block_weights * tensors[0].type->block_bytes);
    EXPECT_TRUE(writer->append("token_embd.weight", bytes_of(zeros).first(size)));
    EXPECT_TRUE(writer->finish());
    const auto checkpoint = Checkpoint::open(dir.file("m.gguf"), Weights::kRequired);
    return checkpoint ? "" : checkpoint.error().message.substr(dir.file("m.gguf").size());
  };
  EXPECT_EQ(error("qwen2", 0), "");
  EXPECT_EQ(error("llama", 0),
            ": general.architecture is \"llama\", expected one of qwen, qwen2, qwen2moe, qwen3, "
            "qwen3moe.");
  EXPECT_EQ(error("qwen2", 19),
            ": tensor \"token_embd.weight\" is of type IQ1_S, which quench cannot read; take a "
            "file of another type, Q4_K for example.");
}

}  // namespace
}  // namespace quench
