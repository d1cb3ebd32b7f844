// GPTQ checkpoints. A matrix [out, in] of b-bit codes consists of
//   qweight I32 [in * b / 32, out]: codes of 32 inputs are a little-endian bit stream of b words;
//   qzeros I32 [groups, out * b / 32]: the zeros of 32 outputs likewise;
//   scales F16 [groups, out]; g_idx I32 [in], the group of every input.
// Version 1 (checkpoint_format "gptq" or none) stores zeros less one, version 2 ("gptq_v2") as they
// are. Widths and groups are taken from the shapes: a config may overrule them for single matrices.
// Layout after GPTQModel 7.7.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/float16.h"
#include "io/hf_quant/config_parts.h"
#include "io/hf_quant/integer_parts.h"
#include "io/message.h"
#include "io/quant_writer.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

constexpr int64_t kRun = 32;  // codes that fill whole words

// The zeros of 32 outputs, in `bits` words. Where fields end with words, version 1 adds its one to
// every field by one addition per word, carries and all, as the library does; with 3 bits it adds
// to each field modulo 8.
class ZeroCoder {
 public:
  ZeroCoder(int bits, bool version_1) : bits_(bits), version_1_(version_1) {
    const std::vector<uint8_t> ones(kRun, version_1 && bits != 3 ? 1 : 0);
    pack_codes(ones.data(), kRun, bits, reinterpret_cast<std::byte*>(offset_));
  }

  void get(const std::byte* words, uint8_t* zeros) const {
    std::byte sums[32];
    for (int w = 0; w < num_words(); ++w)
      store(sums + 4 * w, load<uint32_t>(words + 4 * w) + offset_[w]);
    unpack_codes(sums, kRun, bits_, zeros);
    if (version_1_ && bits_ == 3) {
      for (int64_t i = 0; i < kRun; ++i) zeros[i] = (zeros[i] + 1) & 7;
    }
  }
  void put(const uint8_t* zeros, std::byte* words) const {
    uint8_t fields[kRun];
    const bool by_field = version_1_ && bits_ == 3;
    for (int64_t i = 0; i < kRun; ++i) fields[i] = by_field ? (zeros[i] + 7) & 7 : zeros[i];
    pack_codes(fields, kRun, bits_, words);
    for (int w = 0; w < num_words(); ++w)
      store(words + 4 * w, load<uint32_t>(words + 4 * w) - offset_[w]);
  }
  bool all_are(uint8_t zero, std::span<const std::byte> words) const {
    uint8_t zeros[kRun];
    for (size_t at = 0; at < words.size(); at += static_cast<size_t>(4 * bits_)) {
      get(words.data() + at, zeros);
      if (std::any_of(zeros, zeros + kRun, [&](uint8_t z) { return z != zero; })) return false;
    }
    return true;
  }

 private:
  int num_words() const { return std::min(bits_, 8); }

  int bits_;
  bool version_1_;
  uint32_t offset_[8] = {};
};

class GptqReader : public QuantReader {
 public:
  GptqReader(const Checkpoint& checkpoint, bool version_1)
      : checkpoint_(checkpoint), version_1_(version_1) {}

  Result<std::optional<StoredMatrix>> find(const std::string& name, int64_t rows,
                                           int64_t cols) const override {
    PartFinder finder(checkpoint_, name);
    const std::string where = finder.where();
    const TensorEntry* qweight = checkpoint_.find(finder.stem() + ".qweight");
    if (qweight == nullptr) return std::nullopt;
    IntegerParts parts;
    parts.rows = rows;
    parts.cols = cols;
    // An empty tensor may have any length: no more words than columns.
    const int64_t words = qweight->shape.empty() ? 0 : std::min(qweight->shape[0], cols);
    parts.bits = static_cast<int>(words * 32 / cols);
    if (cols % kRun != 0 || rows % kRun != 0 || words * 32 % cols != 0 ||
        (parts.bits != 2 && parts.bits != 3 && parts.bits != 4 && parts.bits != 8)) {
      return fail(
          ErrorCode::kUnsupported,
          "{}: qweight {} of a matrix [{}, {}] is nothing that quench reads; expected 2, 3, "
          "4 or 8 bits and sides that are multiples of 32.",
          where, shape_text(qweight->shape), rows, cols);
    }
    QUENCH_TRY(qweight, finder.require("qweight", {Dtype::kI32}, {words, rows}));
    const TensorEntry* found = checkpoint_.find(finder.stem() + ".scales");
    parts.groups = found == nullptr || found->shape.empty() ? 1 : found->shape[0];
    QUENCH_TRY(
        const TensorEntry* scales,
        finder.require("scales", {Dtype::kF16, Dtype::kBF16, Dtype::kF32}, {parts.groups, rows}));
    QUENCH_TRY(const TensorEntry* qzeros,
               finder.require("qzeros", {Dtype::kI32}, {parts.groups, rows * parts.bits / 32}));
    QUENCH_TRY(const TensorEntry* g_idx, finder.optional("g_idx", {Dtype::kI32}, {cols}));
    if (parts.groups == 0 || cols % parts.groups != 0) {
      return fail(ErrorCode::kUnsupported,
                  "{}: {} groups do not divide {} columns; quench reads groups of equal size.",
                  where, parts.groups, cols);
    }
    if (g_idx != nullptr) {
      std::vector<int32_t> group_of(static_cast<size_t>(cols));
      std::memcpy(group_of.data(), g_idx->data.data(), g_idx->data.size());
      QUENCH_TRY(parts.permutation, sort_groups(group_of, parts.groups, where));
    }
    parts.scale_dtype = scales->dtype;
    const ZeroCoder coder(parts.bits, version_1_);
    parts.zero_point = !coder.all_are(static_cast<uint8_t>(1 << (parts.bits - 1)), qzeros->data);
    const int bits = parts.bits;
    parts.codes = [=](int64_t row, int64_t num_rows, std::byte* codes) {
      // Words of 32 columns and all rows lie close together; a row of codes is their transpose.
      for (int64_t run = 0; run < cols / kRun; ++run) {
        const std::byte* from = qweight->data.data() + (run * bits * rows + row) * 4;
        for (int w = 0; w < bits; ++w, from += rows * 4) {
          std::byte* to = codes + (run * bits + w) * 4;
          for (int64_t r = 0; r < num_rows; ++r, to += cols * bits / 8)
            std::memcpy(to, from + r * 4, 4);
        }
      }
    };
    const int64_t groups = parts.groups;
    parts.scales = [=](int64_t row, int64_t num_rows, float* out, uint8_t* zeros) {
      std::vector<float> line(static_cast<size_t>(num_rows));
      uint8_t run[kRun];
      for (int64_t g = 0; g < groups; ++g) {
        (void)decode_to_f32(scales->dtype, scales->data, g * rows + row, line);  // type checked
        for (int64_t r = 0; r < num_rows; ++r) {
          out[r * groups + g] = line[static_cast<size_t>(r)];
          const int64_t o = row + r;
          if (r == 0 || o % kRun == 0)
            coder.get(qzeros->data.data() + (g * rows + o / kRun * kRun) * bits / 8, run);
          zeros[r * groups + g] = run[o % kRun];
        }
      }
    };
    return integer_matrix(std::move(parts), finder.take_entries(), where);
  }

  // Old programs write a bias of zeros for every quantized matrix, whether the model has one or
  // not.
  std::vector<std::string> surplus() const override {
    std::vector<std::string> names;
    for (const TensorEntry& entry : checkpoint_.tensors()) {
      if (!entry.name.ends_with(".bias")) continue;
      const std::string stem = entry.name.substr(0, entry.name.size() - 5);
      const bool is_zero = std::all_of(entry.data.begin(), entry.data.end(),
                                       [](std::byte b) { return b == std::byte{0}; });
      if (is_zero && checkpoint_.find(stem + ".qweight") != nullptr) names.push_back(entry.name);
    }
    return names;
  }

 private:
  const Checkpoint& checkpoint_;
  bool version_1_;
};

Result<std::unique_ptr<QuantReader>> open(const Checkpoint& checkpoint, const Json& config) {
  // "format" in files of recent transformers.
  const Json format = setting(config, {"checkpoint_format", "format"}, "gptq");
  if (format != "gptq" && format != "gptq_v2") {
    return fail(ErrorCode::kUnsupported,
                "{}: quantization_config has checkpoint_format {}; quench reads \"gptq\" and "
                "\"gptq_v2\".",
                checkpoint.dir(), format.dump());
  }
  const Json pack = setting(config, {"pack_dtype"}, "int32");
  if (pack != "int32") {
    return fail(ErrorCode::kUnsupported,
                "{}: quantization_config has pack_dtype {}; quench reads \"int32\".",
                checkpoint.dir(), pack.dump());
  }
  return std::make_unique<GptqReader>(checkpoint, format == "gptq");
}

// Version 1 cannot say a zero of 0 without touching its neighbours: symmetric formats only.
template <bool kVersion1>
bool accepts(const Format& format, int64_t rows, int64_t cols, InputTransform::Kind transform) {
  const int bits = format.bits;
  return integer_group(format) > 0 && format.grid.scale == ScaleType::kF16 &&
         (bits == 2 || bits == 3 || bits == 4 || bits == 8) && !(kVersion1 && format.zero_point) &&
         rows % kRun == 0 && format.fits(rows, cols) &&
         transform != InputTransform::Kind::kHadamard;
}

template <bool kVersion1>
Result<std::vector<EncodedTensor>> write(const std::string& name, QuantizedTensor& matrix,
                                         const InputTransform& transform) {
  const Format& format = matrix.format();
  const int64_t rows = matrix.rows();
  const int64_t cols = matrix.cols();
  const int64_t groups = cols / format.tile_cols;
  const int bits = format.bits;
  const std::string stem = module_name(name);
  const ConstPlanes planes = std::as_const(matrix).planes();

  std::vector<std::byte> qweight(static_cast<size_t>(rows * cols * bits / 8));
  std::vector<std::byte> line(static_cast<size_t>(cols * bits / 8));
  std::vector<uint8_t> sorted(static_cast<size_t>(cols));
  std::vector<uint8_t> codes(static_cast<size_t>(cols));
  for (int64_t row = 0; row < rows; ++row) {
    const std::byte* from = planes[0] + row * cols * bits / 8;
    if (transform) {  // in the order of the model's inputs
      unpack_codes(from, cols, bits, sorted.data());
      for (size_t i = 0; i < sorted.size(); ++i)
        codes[static_cast<size_t>(transform.permutation[i])] = sorted[i];
      pack_codes(codes.data(), cols, bits, line.data());
      from = line.data();
    }
    for (int64_t w = 0; w < cols * bits / 32; ++w)
      std::memcpy(qweight.data() + (w * rows + row) * 4, from + w * 4, 4);
  }
  std::vector<std::byte> scales(static_cast<size_t>(rows * groups * 2));
  std::vector<std::byte> qzeros(static_cast<size_t>(groups * rows * bits / 8));
  const ZeroCoder coder(bits, kVersion1);
  uint8_t zeros[kRun];
  std::fill_n(zeros, kRun, static_cast<uint8_t>(1 << (bits - 1)));
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(scales.data() + (g * rows + row) * 2, planes[1] + (row * groups + g) * 2, 2);
      if (format.zero_point) zeros[row % kRun] = static_cast<uint8_t>(planes[2][row * groups + g]);
      if (row % kRun == kRun - 1)
        coder.put(zeros, qzeros.data() + (g * rows + row / kRun * kRun) * bits / 8);
    }
  }
  std::vector<std::byte> g_idx(static_cast<size_t>(cols * 4));
  for (int64_t i = 0; i < cols; ++i) {
    const int64_t column = transform ? transform.permutation[static_cast<size_t>(i)] : i;
    store(g_idx.data() + column * 4, static_cast<int32_t>(i / format.tile_cols));
  }
  std::vector<EncodedTensor> tensors;
  const auto add = [&](const char* part, Dtype dtype, std::vector<int64_t> shape,
                       std::vector<std::byte> bytes) {
    tensors.push_back(
        EncodedTensor::own({stem + "." + part, dtype, std::move(shape)}, std::move(bytes)));
  };
  add("qweight", Dtype::kI32, {cols * bits / 32, rows}, std::move(qweight));
  add("qzeros", Dtype::kI32, {groups, rows * bits / 32}, std::move(qzeros));
  add("scales", Dtype::kF16, {groups, rows}, std::move(scales));
  add("g_idx", Dtype::kI32, {cols}, std::move(g_idx));
  return tensors;
}

// The most common setting is the config's; matrices that differ stand under "dynamic".
template <bool kVersion1>
Result<Json> config(std::span<const WrittenMatrix> matrices) {
  QUENCH_TRY_VOID(refuse_embedding(matrices, "gptq"));
  const auto settings_of = [](const WrittenMatrix& matrix) {
    return Json{{"bits", matrix.format->bits},
                {"group_size", matrix.format->tile_cols},
                {"desc_act", matrix.transform == InputTransform::Kind::kPermutation},
                {"sym", !matrix.format->zero_point}};
  };
  const Json common = most_common(matrices, settings_of);
  Json result = common;
  result["lm_head"] = false;
  result["quant_method"] = "gptq";
  result["checkpoint_format"] = kVersion1 ? "gptq" : "gptq_v2";
  result["pack_dtype"] = "int32";
  result["true_sequential"] = true;
  result["damp_percent"] = 0.01;
  result["meta"] = {{"quantizer", {"quench"}}};
  Json dynamic = Json::object();
  for (const WrittenMatrix& matrix : matrices) {
    const std::string stem = module_name(matrix.name);
    if (stem == "lm_head") {
      if (is_plain(*matrix.format)) continue;
      result["lm_head"] = true;
    }
    const std::string pattern = fmt::format("^{}$", escape_regex(stem));
    if (is_plain(*matrix.format)) {
      if (!is_embedding(matrix.name)) dynamic["-:" + pattern] = Json::object();
    } else if (settings_of(matrix) != common) {
      dynamic["+:" + pattern] = settings_of(matrix);
    }
  }
  if (!dynamic.empty()) result["dynamic"] = dynamic;
  return result;
}

constexpr QuantWriter kWriters[] = {{"gptq", "GPTQ, version 1: 2, 3, 4 or 8 bits, symmetric",
                                     accepts<true>, write<true>, config<true>},
                                    {"gptq_v2", "GPTQ, version 2: also with zero points",
                                     accepts<false>, write<false>, config<false>}};

}  // namespace

extern const QuantMethod gptq_quant;
const QuantMethod gptq_quant = {"gptq", "GPTQ: integers of 2, 3, 4 or 8 bits, act-order too", open,
                                kWriters};

}  // namespace quench
