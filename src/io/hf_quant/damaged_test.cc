// Quantized checkpoints with something wrong: one sentence each that says what and where.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>

#include "base/bytes.h"
#include "io/raw_safetensors.h"
#include "io/safetensors_writer.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

const std::string kStem = "model.layers.0.mlp.down_proj";  // [64, 128]

// A fixture of tests/quant in memory, to be changed.
struct Model {
  struct Part {
    NewTensor tensor;
    std::vector<std::byte> bytes;
  };
  std::map<std::string, Part> parts;
  Json config;

  explicit Model(const std::string& fixture) {
    const auto checkpoint =
        Checkpoint::open(source_path("tests/quant/" + fixture), Weights::kRequired).value();
    for (const TensorEntry& entry : checkpoint.tensors()) {
      parts[entry.name] = {{entry.name, entry.dtype, entry.shape},
                           {entry.data.begin(), entry.data.end()}};
    }
    config = checkpoint.config();
  }
  Json& settings() { return config["quantization_config"]; }
  Part& part(const std::string& name) { return parts.at(kStem + "." + name); }
  template <class T>
  void put(const std::string& name, size_t index, T value) {
    store(part(name).bytes.data() + index * sizeof(T), value);
  }

  // The message of opening it and reading all of the matrix.
  std::string error() const {
    const ScratchDir scratch;
    std::vector<NewTensor> declared;
    for (const auto& [name, part] : parts) declared.push_back(part.tensor);
    auto writer = SafetensorsWriter::create(scratch.file("model.safetensors"), declared).value();
    for (const auto& [name, part] : parts) {
      EXPECT_TRUE(writer.append(name, part.bytes));
    }
    EXPECT_TRUE(writer.finish());
    scratch.write("config.json", config.dump());
    const auto checkpoint = Checkpoint::open(scratch.path(), Weights::kRequired);
    if (!checkpoint) return checkpoint.error().message;
    const auto reader = open_quant_reader(*checkpoint);
    if (!reader) return reader.error().message;
    if (*reader == nullptr) return "not quantized";
    const auto matrix = (*reader)->find(kStem + ".weight", 64, 128);
    if (!matrix) return matrix.error().message;
    if (!*matrix) return "not found";
    QuantizedTensor tensor(*(*matrix)->format, 64, 128);
    const auto read = (*matrix)->read(0, 64, tensor.planes());
    return read ? "no error" : read.error().message;
  }
};

struct Damage {
  const char* fixture;
  std::function<void(Model&)> apply;
  std::vector<std::string> words;
};

const std::vector<Damage>& damages() {
  static const std::vector<Damage> table = {
      {"gptq_int4", [](Model&) {}, {"no error"}},
      {"gptq_int4",
       [](Model& m) { m.settings()["checkpoint_format"] = "marlin"; },
       {"checkpoint_format", "\"marlin\"", "gptq_v2"}},
      {"gptq_int4",
       [](Model& m) { m.settings()["pack_dtype"] = "int16"; },
       {"pack_dtype", "\"int16\""}},
      {"gptq_int4", [](Model& m) { m.parts.erase(kStem + ".qzeros"); }, {kStem, "\"qzeros\""}},
      {"gptq_int4",
       [](Model& m) {
         m.part("qweight").tensor.shape = {64, 16};
       },
       {kStem, "[64, 16]", "[64, 128]"}},
      {"gptq_int4",
       [](Model& m) { m.part("scales").tensor.dtype = Dtype::kI16; },
       {kStem, "\"scales\"", "I16", "F16"}},
      {"gptq_int4",
       [](Model& m) { m.put<int32_t>("g_idx", 5, 4); },
       {kStem, "column 5", "group 4"}},
      {"gptq_int4", [](Model& m) { m.put<int32_t>("g_idx", 5, 1); }, {kStem, "31", "equal size"}},
      {"gptq_int4",
       [](Model& m) { m.put<uint16_t>("scales", 70, 0x7c00); },
       {kStem, "row 6", "inf", "damaged"}},
      {"awq_gemm",
       [](Model& m) { m.settings()["version"] = "gemv_fast"; },
       {"\"gemv_fast\"", "\"gemm\""}},
      {"awq_gemm",
       [](Model& m) { m.settings()["group_size"] = 64; },
       {kStem, "\"qzeros\"", "[4, 8]", "[2, 8]"}},
      {"bnb_nf4",
       [](Model& m) { m.parts.erase(kStem + ".weight.quant_state.bitsandbytes__nf4"); },
       {kStem, "quant_state.bitsandbytes__nf4", "incomplete"}},
      {"bnb_nf4",
       [](Model& m) { m.put<char>("weight.quant_state.bitsandbytes__nf4", 0, '['); },
       {kStem, "quant_state", "not valid JSON"}},
      {"bnb_nf4",
       [](Model& m) { m.put<uint32_t>("weight.absmax", 3, 0x7fc00000); },
       {kStem, "block 3", "row 1", "nan"}},
      {"bnb_nf4_double",
       [](Model& m) { m.parts.erase(kStem + ".weight.nested_quant_map"); },
       {kStem, "nested_quant_map"}},
      {"bnb_int8", [](Model& m) { m.parts.erase(kStem + ".SCB"); }, {kStem, "\"SCB\""}},
      {"bnb_int8",
       [](Model& m) { m.put<uint8_t>("weight_format", 0, 1); },
       {kStem, "weight_format"}},
      {"compressed_int4",
       [](Model& m) { m.settings()["format"] = "nvfp4-pack-quantized"; },
       {"nvfp4-pack-quantized", "pack-quantized"}},
      {"compressed_int4",
       [](Model& m) { m.settings()["config_groups"]["group_0"]["weights"]["num_bits"] = 3; },
       {kStem, "weight_packed", "[64, 16]"}},
      {"compressed_int4",
       [](Model& m) {
         m.part("weight_scale").tensor.shape = {4, 64};
       },
       {kStem, "weight_scale", "[4, 64]"}},
      {"compressed_fp8",
       [](Model& m) { m.put<uint8_t>("weight", 300, 0xff); },
       {kStem, "NaN", "damaged"}},
      {"compressed_fp8",
       [](Model& m) { m.parts.erase(kStem + ".weight_scale"); },
       {kStem, "\"weight_scale\""}},
      {"compressed_fp8_block",
       [](Model& m) { m.settings()["config_groups"]["group_0"]["weights"]["num_bits"] = "x"; },
       {"[64, 192]", "[64, 128]"}},
      {"fp8_bf16_scales",
       [](Model& m) { m.settings()["weight_block_size"] = {128}; },
       {"weight_block_size", "[128]"}},
      {"fp8_bf16_scales", [](Model& m) { m.settings()["fmt"] = "e5m2"; }, {"\"e5m2\"", "e4m3"}},
      {"fp8_bf16_scales",
       [](Model& m) { m.settings()["quant_method"] = nullptr; },
       {"quant_method", "null", "bitsandbytes"}},
  };
  return table;
}

TEST(DamagedQuant, IsNamed) {
  for (const Damage& damage : damages()) {
    Model model(damage.fixture);
    damage.apply(model);
    const std::string message = model.error();
    for (const std::string& word : damage.words) {
      EXPECT_NE(message.find(word), std::string::npos)
          << damage.fixture << ": \"" << word << "\" is not in: " << message;
    }
  }
}

TEST(DamagedQuant, SeparateConfigsStandWhereTheConfigSaysNothing) {
  Model model("gptq_2023");
  EXPECT_EQ(model.error(), "not quantized");
  const ScratchDir scratch;
  scratch.write("config.json", "{}");
  scratch.write("quantize_config.json", "[4]");
  const auto checkpoint = Checkpoint::open(scratch.path(), Weights::kOptional).value();
  EXPECT_NE(open_quant_reader(checkpoint).error().message.find("quantize_config.json"),
            std::string::npos);
  scratch.write("quantize_config.json", R"({"checkpoint_format": "marlin"})");
  EXPECT_NE(open_quant_reader(checkpoint).error().message.find("marlin"), std::string::npos);
}

}  // namespace
}  // namespace quench
