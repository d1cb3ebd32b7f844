// bitsandbytes checkpoints.
//   4 bits: "X.weight" U8 [(out * in + 1) / 2, 1], two codes per byte, the first in the high half,
//     in blocks of the flattened matrix; "X.weight.quant_map" F32 [16], the levels;
//     "X.weight.absmax" F32, the scale of each block, or, quantized once more, U8 indices into
//     "X.weight.nested_quant_map" F32 [256] times "X.weight.nested_absmax" F32 per block of those,
//     plus an offset; "X.weight.quant_state.bitsandbytes__nf4" (or __fp4) U8, JSON with the rest.
//   8 bits (LLM.int8): "X.weight" I8 [out, in], "X.SCB" F32 [out], value = code * SCB / 127.
// Layouts after bitsandbytes 0.50.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "formats/table.h"
#include "io/hf_quant/config_parts.h"
#include "io/hf_quant/integer_parts.h"
#include "io/hf_quant/nested_scales_parts.h"
#include "io/message.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

// A matrix of 4-bit codes in blocks of the flattened matrix.
struct Blocks {
  std::string where;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t block = 0;
  const TensorEntry* codes = nullptr;
  const TensorEntry* absmax = nullptr;
  const TensorEntry* nested_map = nullptr;  // null: absmax is F32
  const TensorEntry* nested_absmax = nullptr;
  int64_t nested_block = 0;
  float nested_offset = 0.0f;
  float levels[16] = {};
  const Format* format = nullptr;  // nf4_g64_f32 or f32

  // In the library's order of roundings.
  float scale(int64_t i) const {
    if (nested_map == nullptr) return load<float>(absmax->data.data() + 4 * i);
    const auto index = static_cast<int64_t>(absmax->data[static_cast<size_t>(i)]);
    return load<float>(nested_map->data.data() + 4 * index) *
               load<float>(nested_absmax->data.data() + 4 * (i / nested_block)) +
           nested_offset;
  }
  int code(int64_t i) const {
    return static_cast<int>(codes->data[static_cast<size_t>(i / 2)]) >> (i % 2 == 0 ? 4 : 0) & 15;
  }

  Result<void> read(int64_t row, int64_t num_rows, const Planes& out) const {
    const int64_t begin = row * cols;
    const int64_t end = begin + num_rows * cols;
    for (int64_t b = begin / block; b * block < end; ++b) {
      if (std::isfinite(scale(b))) continue;
      return fail(ErrorCode::kInvalidFile,
                  "{}: the scale of block {} (row {}) is {}; the file is damaged.", where, b,
                  b * block / cols, scale(b));
    }
    if (format->name == "f32") {
      for (int64_t i = begin; i < end; ++i)
        store<float>(out[0] + 4 * (i - begin), levels[code(i)] * scale(i / block));
      return {};
    }
    for (int64_t i = begin; i < end; i += 2) {
      const std::byte pair = codes->data[static_cast<size_t>(i / 2)];
      out[0][(i - begin) / 2] = pair >> 4 | pair << 4;
    }
    for (int64_t i = begin; i < end; i += format->tile_cols)
      store<float>(out[1] + 4 * ((i - begin) / format->tile_cols), scale(i / block));
    return {};
  }
};

class BitsAndBytesReader : public QuantReader {
 public:
  explicit BitsAndBytesReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  Result<std::optional<StoredMatrix>> find(const std::string& name, int64_t rows,
                                           int64_t cols) const override {
    PartFinder finder(checkpoint_, name);
    const TensorEntry* weight = finder.peek("weight");
    if (weight == nullptr) return std::nullopt;
    if (weight->dtype == Dtype::kI8) return eight_bits(finder, rows, cols);
    if (weight->dtype != Dtype::kU8) return std::nullopt;
    for (const char* type : {"nf4", "fp4"}) {
      const std::string part = fmt::format("weight.quant_state.bitsandbytes__{}", type);
      if (const TensorEntry* state = finder.find(part))
        return four_bits(finder, *state, rows, cols);
    }
    return fail(ErrorCode::kInvalidFile,
                "{}: the quantized matrix has no tensor \"weight.quant_state.bitsandbytes__nf4\"; "
                "the file is incomplete.",
                finder.where());
  }

 private:
  static Result<std::optional<StoredMatrix>> eight_bits(PartFinder& finder, int64_t rows,
                                                        int64_t cols) {
    QUENCH_TRY(const TensorEntry* weight, finder.require("weight", {Dtype::kI8}, {rows, cols}));
    QUENCH_TRY(const TensorEntry* scb, finder.require("SCB", {Dtype::kF32}, {rows}));
    const TensorEntry* layout = finder.find("weight_format");
    const bool by_rows =
        layout == nullptr || std::all_of(layout->data.begin(), layout->data.end(),
                                         [](std::byte b) { return b == std::byte{0}; });
    if (!by_rows) {
      return fail(ErrorCode::kUnsupported,
                  "{}: weight_format is that of a GPU's tensor cores; quench reads rows (0).",
                  finder.where());
    }
    if (cols % 32 != 0) {
      return fail(ErrorCode::kUnsupported,
                  "{}: a matrix of {} columns; quench reads int8 in multiples of 32.",
                  finder.where(), cols);
    }
    IntegerParts parts = signed_byte_parts(*weight, rows, cols);
    parts.scales = [scb](int64_t row, int64_t num_rows, float* scales, uint8_t*) {
      for (int64_t r = 0; r < num_rows; ++r)
        scales[r] = load<float>(scb->data.data() + 4 * (row + r)) / 127.0f;
    };
    return integer_matrix(std::move(parts), finder.take_entries(), finder.where());
  }

  static Result<std::optional<StoredMatrix>> four_bits(PartFinder& finder, const TensorEntry& state,
                                                       int64_t rows, int64_t cols) {
    Blocks blocks;
    blocks.where = finder.where();
    blocks.rows = rows;
    blocks.cols = cols;
    const std::string_view text(reinterpret_cast<const char*>(state.data.data()),
                                state.data.size());
    QUENCH_TRY(const Json json, parse_json(text, blocks.where + ", quant_state"));
    const auto number = [&json](const char* key) {
      const Json value = json.is_object() ? json.value(key, Json()) : Json();
      return value.is_number_unsigned() && value < int64_t{1} << 40 ? value.get<int64_t>() : 0;
    };
    blocks.block = number("blocksize");
    blocks.nested_block = number("nested_blocksize");
    const Json shape = json.is_object() ? json.value("shape", Json()) : Json();
    if (blocks.block == 0 || shape != Json({rows, cols})) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: quant_state is {}; expected a blocksize and the shape [{}, {}].",
                  blocks.where, json.dump(-1, ' ', true, Json::error_handler_t::replace), rows,
                  cols);
    }
    const int64_t count = ceil_div(rows * cols, blocks.block);
    QUENCH_TRY(blocks.codes, finder.require("weight", {Dtype::kU8}, {(rows * cols + 1) / 2, 1}));
    QUENCH_TRY(const TensorEntry* map, finder.require("weight.quant_map", {Dtype::kF32}, {16}));
    std::memcpy(blocks.levels, map->data.data(), sizeof(blocks.levels));
    QUENCH_TRY(blocks.absmax, finder.require("weight.absmax", {Dtype::kF32, Dtype::kU8}, {count}));
    if (blocks.absmax->dtype == Dtype::kU8) {
      if (blocks.nested_block == 0 || !json.value("nested_offset", Json()).is_number()) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: absmax is quantized, but quant_state has no nested_blocksize and "
                    "nested_offset.",
                    blocks.where);
      }
      blocks.nested_offset = json["nested_offset"].get<float>();
      QUENCH_TRY(blocks.nested_map,
                 finder.require("weight.nested_quant_map", {Dtype::kF32}, {256}));
      QUENCH_TRY(blocks.nested_absmax, finder.require("weight.nested_absmax", {Dtype::kF32},
                                                      {ceil_div(count, blocks.nested_block)}));
    }
    // Blocks that run across rows and other tables are read as the numbers that they are.
    const Format* nf4 = find_format("nf4_g64_f32");
    const bool is_nf4 = std::equal(blocks.levels, blocks.levels + 16, nf4->grid.levels);
    const bool fits = blocks.block % nf4->tile_cols == 0 && cols % nf4->tile_cols == 0;
    blocks.format = is_nf4 && fits ? nf4 : find_format("f32");
    StoredMatrix matrix;
    matrix.format = blocks.format;
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.entries = finder.take_entries();
    matrix.read = [blocks](int64_t row, int64_t num_rows, const Planes& out) {
      return blocks.read(row, num_rows, out);
    };
    return matrix;
  }

  const Checkpoint& checkpoint_;
};

Result<std::unique_ptr<QuantReader>> open(const Checkpoint& checkpoint, const Json&) {
  return std::make_unique<BitsAndBytesReader>(checkpoint);
}

// Room for the longest state: 140 bytes of names, two sizes of a matrix, an offset.
constexpr size_t kNestedStateBytes = 256;

bool accepts_nf4(const Format& format, int64_t rows, int64_t cols, InputTransform::Kind transform) {
  return format.name == "nf4_g64_f32" && format.fits(rows, cols) &&
         transform == InputTransform::Kind::kNone;
}

EncodedTensor float_tensor(const std::string& name, std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return EncodedTensor::own({name, Dtype::kF32, {static_cast<int64_t>(values.size())}},
                            {bytes.begin(), bytes.end()});
}

// The codes, their table and the state; `nested` names how the scales are quantized, if they are.
std::vector<EncodedTensor> nf4_tensors(const std::string& weight, const QuantizedTensor& matrix,
                                       const Json& nested) {
  const int64_t count = matrix.rows() * matrix.cols();
  const ConstPlanes planes = matrix.planes();
  std::vector<std::byte> codes(static_cast<size_t>(count / 2));
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = planes[0][i] >> 4 | planes[0][i] << 4;
  Json state = {{"quant_type", "nf4"},
                {"blocksize", 64},
                {"dtype", "bfloat16"},
                {"shape", {matrix.rows(), matrix.cols()}}};
  if (nested.is_object()) state.update(nested);
  std::string text = state.dump();
  // As many bytes whatever the numbers are: the file is laid out before they are known.
  if (nested.is_object()) text.resize(std::max(text.size(), kNestedStateBytes), ' ');
  const auto text_bytes = std::as_bytes(std::span(text));
  std::vector<EncodedTensor> tensors;
  tensors.push_back(EncodedTensor::own({weight, Dtype::kU8, {count / 2, 1}}, std::move(codes)));
  tensors.push_back(float_tensor(weight + ".quant_map", table_format::kNf4));
  tensors.push_back(EncodedTensor::own(
      {weight + ".quant_state.bitsandbytes__nf4", Dtype::kU8, {static_cast<int64_t>(text.size())}},
      {text_bytes.begin(), text_bytes.end()}));
  return tensors;
}

Result<std::vector<EncodedTensor>> write_nf4(const std::string& name, QuantizedTensor& matrix,
                                             const InputTransform&) {
  const int64_t scales = matrix.rows() * matrix.cols() / 64;
  const std::string weight = module_name(name) + ".weight";
  std::vector<EncodedTensor> tensors = nf4_tensors(weight, matrix, {});
  tensors.push_back(EncodedTensor::view({weight + ".absmax", Dtype::kF32, {scales}},
                                        {matrix.planes()[1], static_cast<size_t>(scales * 4)}));
  return tensors;
}

// The codes stay those of the scales as they were, as in the library.
Result<std::vector<EncodedTensor>> write_nf4_double(const std::string& name,
                                                    QuantizedTensor& matrix,
                                                    const InputTransform&) {
  std::vector<float> scales(static_cast<size_t>(matrix.rows() * matrix.cols() / 64));
  std::byte* const stored = matrix.planes()[1];
  std::memcpy(scales.data(), stored, scales.size() * sizeof(float));
  const NestedScales nested = nest_scales(scales);
  const auto count = static_cast<int64_t>(scales.size());
  for (int64_t i = 0; i < count; ++i) store<float>(stored + 4 * i, nested.scale(i));
  const std::string weight = module_name(name) + ".weight";
  std::vector<EncodedTensor> tensors = nf4_tensors(weight, matrix,
                                                   {{"nested_blocksize", NestedScales::kBlock},
                                                    {"nested_dtype", "float32"},
                                                    {"nested_offset", nested.offset}});
  const auto indices = std::as_bytes(std::span(nested.indices));
  tensors.push_back(EncodedTensor::own({weight + ".absmax", Dtype::kU8, {count}},
                                       {indices.begin(), indices.end()}));
  tensors.push_back(float_tensor(weight + ".nested_absmax", nested.absmax));
  tensors.push_back(float_tensor(weight + ".nested_quant_map", nested_levels()));
  return tensors;
}

bool accepts_int8(const Format& format, int64_t rows, int64_t cols,
                  InputTransform::Kind transform) {
  return format.name == "int8" && cols % 32 == 0 && format.fits(rows, cols) &&
         transform == InputTransform::Kind::kNone;
}

// SCB / 127 reaches most floats, and a neighbour of the others.
float scb_of(float scale) {
  const float middle = scale * 127.0f;
  for (const float scb : {std::nextafter(middle, 0.0f), std::nextafter(middle, HUGE_VALF)}) {
    if (scb / 127.0f == scale) return scb;
  }
  return middle;
}

Result<std::vector<EncodedTensor>> write_int8(const std::string& name, QuantizedTensor& matrix,
                                              const InputTransform&) {
  const int64_t rows = matrix.rows();
  const std::string stem = module_name(name);
  std::vector<std::byte> scb(static_cast<size_t>(rows * 4));
  for (int64_t row = 0; row < rows; ++row)
    store<float>(scb.data() + 4 * row, scb_of(load<float>(matrix.planes()[1] + 4 * row)));
  std::vector<EncodedTensor> tensors;
  tensors.push_back(signed_bytes(stem + ".weight", matrix));
  tensors.push_back(EncodedTensor::own({stem + ".SCB", Dtype::kF32, {rows}}, std::move(scb)));
  tensors.push_back(EncodedTensor::own({stem + ".weight_format", Dtype::kU8, {}}, {std::byte{0}}));
  return tensors;
}

// The head is plain whatever the list says, unless the list is not the library's own.
Result<Json> config(std::span<const WrittenMatrix> matrices, bool four_bits, bool nested = false) {
  QUENCH_TRY_VOID(refuse_embedding(matrices, "bitsandbytes"));
  Json result = {{"quant_method", "bitsandbytes"},
                 {"load_in_4bit", four_bits},
                 {"load_in_8bit", !four_bits},
                 {"llm_int8_threshold", 6.0},
                 {"llm_int8_skip_modules", plain_modules(matrices)}};
  if (four_bits) {
    result["bnb_4bit_quant_type"] = "nf4";
    result["bnb_4bit_use_double_quant"] = nested;
    result["bnb_4bit_compute_dtype"] = "bfloat16";
    result["bnb_4bit_quant_storage"] = "uint8";
  }
  return result;
}
Result<Json> config_nf4(std::span<const WrittenMatrix> matrices) { return config(matrices, true); }
Result<Json> config_nf4_double(std::span<const WrittenMatrix> matrices) {
  return config(matrices, true, true);
}
Result<Json> config_int8(std::span<const WrittenMatrix> matrices) {
  return config(matrices, false);
}

constexpr QuantWriter kWriters[] = {
    {"bnb_nf4", "bitsandbytes NF4, scales in f32", accepts_nf4, write_nf4, config_nf4},
    {"bnb_nf4_double", "bitsandbytes NF4 with double quantization: scales in 8 bits", accepts_nf4,
     write_nf4_double, config_nf4_double, true},
    {"bnb_int8", "bitsandbytes LLM.int8; scales exact to the last bit but one", accepts_int8,
     write_int8, config_int8}};

}  // namespace

extern const QuantMethod bitsandbytes_quant;
const QuantMethod bitsandbytes_quant = {
    "bitsandbytes", "bitsandbytes: NF4 and FP4, also with double quantization; LLM.int8", open,
    kWriters};

}  // namespace quench
