// compressed-tensors checkpoints (llm-compressor).
//   pack-quantized: "X.weight_packed" I32 [out, in * b / 32], codes + 2^(b-1) as a bit stream per
//     row; "X.weight_scale" [out, groups]; "X.weight_zero_point" I32 [out * b / 32, groups], the
//     zeros + 2^(b-1) as a bit stream per column; "X.weight_shape"; "X.weight_g_idx" I32 [in];
//   int-quantized: "X.weight" I8 [out, in], "X.weight_scale", "X.weight_zero_point" I8;
//   float-quantized: "X.weight" F8_E4M3 [out, in], "X.weight_scale".
// Scales are one per matrix, row, group or block. How activations are quantized is up to the
// program that runs the model; quench leaves them. Layouts after compressed-tensors 0.20 (older
// releases pad widths that do not divide 32 to words; those are refused).
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/bytes.h"
#include "io/hf_quant/config_parts.h"
#include "io/hf_quant/float8_parts.h"
#include "io/hf_quant/integer_parts.h"
#include "io/message.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

const auto kFloats = {Dtype::kBF16, Dtype::kF16, Dtype::kF32};
// What a module may have besides its weight; it concerns activations and the cache.
constexpr const char* kActivationParts[] = {"input_scale", "input_zero_point", "output_scale",
                                            "output_zero_point"};

// Groups per row that a scale tensor says, 0 for a shape that is none of [rows, groups], [1], [].
int64_t groups_of(const TensorEntry& scales, int64_t rows) {
  if (num_elements(scales.shape) == 1) return 1;
  return scales.shape.size() == 2 && scales.shape[0] == rows ? scales.shape[1] : 0;
}

// Scales [rows, groups], or one for all.
void read_scales(const TensorEntry& scales, int64_t groups, int64_t row, int64_t num_rows,
                 float* out) {
  if (num_elements(scales.shape) == 1) {
    (void)decode_to_f32(scales.dtype, scales.data, 0, {out, 1});
    std::fill_n(out + 1, num_rows * groups - 1, *out);
  } else {
    (void)decode_to_f32(scales.dtype, scales.data, row * groups,
                        {out, static_cast<size_t>(num_rows * groups)});
  }
}

class CompressedReader : public QuantReader {
 public:
  CompressedReader(const Checkpoint& checkpoint, std::set<int> bits, BlockSize block)
      : checkpoint_(checkpoint), bits_(std::move(bits)), block_(block) {}

  Result<std::optional<StoredMatrix>> find(const std::string& name, int64_t rows,
                                           int64_t cols) const override {
    PartFinder finder(checkpoint_, name);
    if (const TensorEntry* packed = finder.peek("weight_packed"))
      return packed_integers(finder, *packed, rows, cols);
    const TensorEntry* weight = finder.peek("weight");
    if (weight != nullptr && weight->dtype == Dtype::kI8) return bytes(finder, rows, cols);
    if (weight != nullptr && weight->dtype == Dtype::kF8E4M3) return floats(finder, rows, cols);
    return std::nullopt;
  }
  std::vector<std::string> surplus() const override {
    return {"*.k_scale", "*.v_scale", "*.q_scale", "*.k_zero_point", "*.v_zero_point"};
  }

 private:
  static void take_activation_parts(PartFinder& finder) {
    for (const char* part : kActivationParts) (void)finder.find(part);
  }

  // The scales of integers, and with them the number of groups.
  static Result<const TensorEntry*> integer_scales(PartFinder& finder, IntegerParts& parts) {
    const TensorEntry* scales = finder.find("weight_scale");
    parts.groups = scales == nullptr ? 0 : groups_of(*scales, parts.rows);
    const bool is_float = scales != nullptr &&
                          std::find(kFloats.begin(), kFloats.end(), scales->dtype) != kFloats.end();
    if (!is_float || parts.groups == 0 || parts.cols % parts.groups != 0 || parts.cols % 32 != 0) {
      return fail(ErrorCode::kUnsupported,
                  "{}: tensor \"weight_scale\" is {} for a matrix [{}, {}]; quench reads one scale "
                  "per matrix, row or whole group, and columns in multiples of 32.",
                  finder.where(),
                  scales == nullptr
                      ? std::string("missing")
                      : fmt::format("{} {}", dtype_name(scales->dtype), shape_text(scales->shape)),
                  parts.rows, parts.cols);
    }
    parts.scale_dtype = scales->dtype;
    return scales;
  }

  Result<std::optional<StoredMatrix>> packed_integers(PartFinder& finder, const TensorEntry& packed,
                                                      int64_t rows, int64_t cols) const {
    IntegerParts parts;
    parts.rows = rows;
    parts.cols = cols;
    for (const int bits : bits_) {
      if (packed.shape.size() == 2 && packed.shape[1] == cols * bits / 32) parts.bits = bits;
    }
    if (parts.bits == 0 || cols % 32 != 0) {
      return fail(ErrorCode::kUnsupported,
                  "{}: tensor \"weight_packed\" is {} for a matrix [{}, {}], which is no width of "
                  "the quantization_config without padding.",
                  finder.where(), shape_text(packed.shape), rows, cols);
    }
    const int bits = parts.bits;
    QUENCH_TRY(const TensorEntry* codes,
               finder.require("weight_packed", {Dtype::kI32}, {rows, cols * bits / 32}));
    QUENCH_TRY(const TensorEntry* scales, integer_scales(finder, parts));
    const int64_t groups = parts.groups;
    const int64_t zero_words = ceil_div(rows * bits, 32);
    QUENCH_TRY(const TensorEntry* zeros,
               finder.optional("weight_zero_point", {Dtype::kI32}, {zero_words, groups}));
    QUENCH_TRY(const TensorEntry* g_idx, finder.optional("weight_g_idx", {Dtype::kI32}, {cols}));
    QUENCH_TRY_VOID(
        finder.optional("weight_shape", {Dtype::kI64, Dtype::kI32}, {2}).map([](auto) {}));
    take_activation_parts(finder);
    if (g_idx != nullptr) {
      std::vector<int32_t> group_of(static_cast<size_t>(cols));
      std::memcpy(group_of.data(), g_idx->data.data(), g_idx->data.size());
      const bool unused =
          std::all_of(group_of.begin(), group_of.end(), [](int32_t g) { return g == -1; });
      if (!unused) {
        QUENCH_TRY(parts.permutation, sort_groups(group_of, groups, finder.where()));
      }
    }
    parts.zero_point = zeros != nullptr;
    parts.codes = [=](int64_t row, int64_t num_rows, std::byte* out) {
      std::memcpy(out, codes->data.data() + row * cols * bits / 8,
                  static_cast<size_t>(num_rows * cols * bits / 8));
    };
    parts.scales = [=](int64_t row, int64_t num_rows, float* out, uint8_t* out_zeros) {
      read_scales(*scales, groups, row, num_rows, out);
      for (int64_t i = 0; zeros != nullptr && i < num_rows * groups; ++i) {
        // The field's first word, and the next where it runs over.
        const int64_t bit = (row + i / groups) * bits;
        const auto word = [&](int64_t line) {
          const int64_t at = line * groups + i % groups;
          return line < zero_words ? uint64_t{load<uint32_t>(zeros->data.data() + at * 4)} : 0;
        };
        const uint64_t pair = word(bit / 32) | word(bit / 32 + 1) << 32;
        out_zeros[i] = pair >> bit % 32 & ((1u << bits) - 1);
      }
    };
    return integer_matrix(std::move(parts), finder.take_entries(), finder.where());
  }

  static Result<std::optional<StoredMatrix>> bytes(PartFinder& finder, int64_t rows, int64_t cols) {
    QUENCH_TRY(const TensorEntry* codes, finder.require("weight", {Dtype::kI8}, {rows, cols}));
    IntegerParts parts = signed_byte_parts(*codes, rows, cols);
    QUENCH_TRY(const TensorEntry* scales, integer_scales(finder, parts));
    const int64_t groups = parts.groups;
    QUENCH_TRY(const TensorEntry* zeros,
               finder.optional("weight_zero_point", {Dtype::kI8}, {rows, groups}));
    take_activation_parts(finder);
    parts.zero_point = zeros != nullptr;
    parts.scales = [=](int64_t row, int64_t num_rows, float* out, uint8_t* out_zeros) {
      read_scales(*scales, groups, row, num_rows, out);
      for (int64_t i = 0; zeros != nullptr && i < num_rows * groups; ++i) {
        const auto zero = zeros->data[static_cast<size_t>(row * groups + i)];
        out_zeros[i] = static_cast<uint8_t>(zero ^ std::byte{0x80});
      }
    };
    return integer_matrix(std::move(parts), finder.take_entries(), finder.where());
  }

  Result<std::optional<StoredMatrix>> floats(PartFinder& finder, int64_t rows, int64_t cols) const {
    Float8Parts parts;
    parts.rows = rows;
    parts.cols = cols;
    QUENCH_TRY(parts.weight, finder.require("weight", {Dtype::kF8E4M3}, {rows, cols}));
    const TensorEntry* scales = finder.peek("weight_scale");
    parts.block = block_;
    if (scales != nullptr && num_elements(scales->shape) == 1) {
      parts.block = {rows, cols};
    } else if (scales != nullptr && scales->shape == std::vector<int64_t>{rows, 1}) {
      parts.block = {1, cols};
    }
    QUENCH_TRY(parts.scales, find_float8_scales(finder, "weight_scale", parts));
    take_activation_parts(finder);
    return float8_matrix(parts, finder.take_entries(), finder.where());
  }

  const Checkpoint& checkpoint_;
  std::set<int> bits_;  // of the packed matrices
  BlockSize block_;
};

constexpr const char* kFormats[] = {"pack-quantized",  "int-quantized",   "float-quantized",
                                    "naive-quantized", "mixed-precision", "dense"};

Result<void> check_format(const Checkpoint& checkpoint, const Json& format) {
  for (const char* known : kFormats) {
    if (format == known) return {};
  }
  return fail(ErrorCode::kUnsupported,
              "{}: quantization_config has format {}; of compressed-tensors quench reads {}.",
              checkpoint.dir(), format.dump(), fmt::join(kFormats, ", "));
}

Result<std::unique_ptr<QuantReader>> open(const Checkpoint& checkpoint, const Json& config) {
  QUENCH_TRY_VOID(check_format(checkpoint, setting(config, {"format"}, "dense")));
  std::set<int> bits;
  BlockSize block = {128, 128};
  for (const Json& group : setting(config, {"config_groups"}, Json::object())) {
    const Json weights = group.is_object() ? group.value("weights", Json()) : Json();
    if (!weights.is_object()) continue;
    if (group.contains("format") && !group["format"].is_null())
      QUENCH_TRY_VOID(check_format(checkpoint, group["format"]));
    const Json width = weights.value("num_bits", Json());
    if (width.is_number_unsigned() && width >= 2 && width <= 8) bits.insert(width.get<int>());
    const Json shape = weights.value("block_structure", Json());
    if (const auto found = block_size(shape)) block = *found;
  }
  return std::make_unique<CompressedReader>(checkpoint, bits, block);
}

bool accepts(const Format& format, int64_t rows, int64_t cols, InputTransform::Kind transform) {
  if (transform != InputTransform::Kind::kNone || !format.fits(rows, cols) || cols % 32 != 0)
    return false;
  if (format.name == "int8" || format.name.starts_with("fp8")) return true;
  return integer_group(format) > 0 && (format.bits == 4 || format.bits == 8);
}

Result<std::vector<EncodedTensor>> write(const std::string& name, QuantizedTensor& matrix,
                                         const InputTransform&) {
  const Format& format = matrix.format();
  const std::string stem = module_name(name);
  if (format.name.starts_with("fp8")) return write_float8(stem, "weight_scale", matrix);
  const int64_t rows = matrix.rows();
  const int64_t cols = matrix.cols();
  const int64_t groups = cols / format.tile_width(cols);
  const ConstPlanes planes = std::as_const(matrix).planes();
  const auto plane = [&](int p) {
    return std::span(planes[static_cast<size_t>(p)],
                     static_cast<size_t>(format.plane_bytes(p, rows, cols)));
  };
  constexpr Dtype kScaleTypes[] = {Dtype::kF16, Dtype::kBF16, Dtype::kF32};
  std::vector<EncodedTensor> tensors;
  tensors.push_back(EncodedTensor::view(
      {stem + ".weight_scale", kScaleTypes[static_cast<int>(format.grid.scale)], {rows, groups}},
      plane(1)));
  if (format.name == "int8") {
    tensors.push_back(signed_bytes(stem + ".weight", matrix));
    return tensors;
  }
  const int bits = format.bits;
  tensors.push_back(EncodedTensor::view(
      {stem + ".weight_packed", Dtype::kI32, {rows, cols * bits / 32}}, plane(0)));
  const int64_t shape[2] = {rows, cols};
  const auto shape_bytes = std::as_bytes(std::span(shape));
  tensors.push_back(EncodedTensor::own({stem + ".weight_shape", Dtype::kI64, {2}},
                                       {shape_bytes.begin(), shape_bytes.end()}));
  if (!format.zero_point) return tensors;
  const int64_t words = ceil_div(rows * bits, 32);
  std::vector<std::byte> zeros(static_cast<size_t>(words * groups * 4));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t bit = row * bits;  // fields of 4 and 8 bits end with bytes
      zeros[static_cast<size_t>((bit / 32 * groups + g) * 4 + bit % 32 / 8)] |=
          planes[2][row * groups + g] << bit % 8;
    }
  }
  tensors.push_back(EncodedTensor::own({stem + ".weight_zero_point", Dtype::kI32, {words, groups}},
                                       std::move(zeros)));
  return tensors;
}

const char* layout_of(const Format& format) {
  if (format.name == "int8") return "int-quantized";
  return format.name.starts_with("fp8") ? "float-quantized" : "pack-quantized";
}

// A group of config_groups for all matrices of one format.
Json scheme(const Format& format) {
  const bool is_float = format.name.starts_with("fp8");
  const bool by_blocks = format.name == "fp8_b128";
  const bool by_rows = format.tile_cols == 0;
  Json weights = {{"num_bits", format.bits},
                  {"type", is_float ? "float" : "int"},
                  {"symmetric", !format.zero_point},
                  {"strategy", by_blocks ? "block"
                               : by_rows ? "channel"
                                         : "group"},
                  {"dynamic", false}};
  if (by_blocks) weights["block_structure"] = {128, 128};
  if (!by_blocks && !by_rows) weights["group_size"] = format.tile_cols;
  Json inputs;
  if (is_float || by_rows) {
    inputs = {{"num_bits", 8},
              {"type", is_float ? "float" : "int"},
              {"symmetric", true},
              {"strategy", by_blocks ? "group" : "token"},
              {"dynamic", true}};
    if (by_blocks) inputs["group_size"] = 128;
  }
  return {{"weights", weights},
          {"input_activations", inputs},
          {"output_activations", nullptr},
          {"format", layout_of(format)}};
}

Result<Json> config(std::span<const WrittenMatrix> matrices) {
  QUENCH_TRY_VOID(refuse_embedding(matrices, "compressed-tensors"));
  std::vector<const Format*> formats;
  for (const WrittenMatrix& matrix : matrices) {
    if (!is_plain(*matrix.format) &&
        std::find(formats.begin(), formats.end(), matrix.format) == formats.end())
      formats.push_back(matrix.format);
  }
  Json groups = Json::object();
  std::set<std::string> layouts;
  for (const Format* format : formats) {
    Json targets = Json::array();
    for (const WrittenMatrix& matrix : matrices) {
      if (matrix.format == format) targets.push_back(module_name(matrix.name));
    }
    Json group = scheme(*format);
    group["targets"] = formats.size() == 1 ? Json{"Linear"} : targets;
    groups[fmt::format("group_{}", groups.size())] = group;
    layouts.insert(layout_of(*format));
  }
  return Json{{"quant_method", "compressed-tensors"},
              {"format", layouts.size() == 1 ? *layouts.begin() : "mixed-precision"},
              {"quantization_status", "compressed"},
              {"config_groups", groups},
              {"ignore", plain_modules(matrices)},
              {"kv_cache_scheme", nullptr}};
}

constexpr QuantWriter kWriters[] = {{"compressed-tensors",
                                     "compressed-tensors: int4 and int8 groups, int8 rows, FP8",
                                     accepts, write, config}};

}  // namespace

extern const QuantMethod compressed_tensors_quant;
const QuantMethod compressed_tensors_quant = {
    "compressed-tensors", "compressed-tensors: packed integers, int8, FP8", open, kWriters};

}  // namespace quench
