// Qwen's FP8 checkpoints: "X.weight" F8_E4M3 [out, in] and "X.weight_scale_inv", one factor (its
// name notwithstanding) per block of 128 x 128 weights, F32 or BF16; blocks at the edges may be
// partial. Without weight_block_size the factor is one number for the matrix. Inputs are meant to
// be quantized to e4m3 when the model runs; quench multiplies them as they are.
#include "io/hf_quant/config_parts.h"
#include "io/hf_quant/float8_parts.h"
#include "io/hf_quant/integer_parts.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

class Fp8Reader : public QuantReader {
 public:
  // No block: one factor for the matrix.
  Fp8Reader(const Checkpoint& checkpoint, std::optional<BlockSize> block)
      : checkpoint_(checkpoint), block_(block) {}

  Result<std::optional<StoredMatrix>> find(const std::string& name, int64_t rows,
                                           int64_t cols) const override {
    const TensorEntry* weight = checkpoint_.find(name);
    if (weight == nullptr || weight->dtype != Dtype::kF8E4M3) return std::nullopt;
    PartFinder finder(checkpoint_, name);
    Float8Parts parts;
    parts.rows = rows;
    parts.cols = cols;
    QUENCH_TRY(parts.weight, finder.require("weight", {Dtype::kF8E4M3}, {rows, cols}));
    parts.block = block_.value_or(BlockSize{rows, cols});
    QUENCH_TRY(parts.scales, find_float8_scales(finder, "weight_scale_inv", parts));
    for (const char* part : {"input_scale", "activation_scale"}) (void)finder.find(part);
    return float8_matrix(parts, finder.take_entries(), finder.where());
  }

 private:
  const Checkpoint& checkpoint_;
  std::optional<BlockSize> block_;
};

Result<std::unique_ptr<QuantReader>> open(const Checkpoint& checkpoint, const Json& config) {
  const Json format = setting(config, {"fmt"}, "e4m3");
  const Json block = setting(config, {"weight_block_size"}, nullptr);
  if (format != "e4m3") {
    return fail(ErrorCode::kUnsupported,
                "{}: quantization_config has fmt {}; quench reads \"e4m3\".", checkpoint.dir(),
                format.dump());
  }
  const std::optional<BlockSize> size = block_size(block);
  if (!block.is_null() && !size) {
    return fail(ErrorCode::kInvalidFile,
                "{}: quantization_config has weight_block_size {}; expected two positive numbers.",
                checkpoint.dir(), block.dump());
  }
  return std::make_unique<Fp8Reader>(checkpoint, size);
}

bool accepts(const Format& format, int64_t rows, int64_t cols, InputTransform::Kind transform) {
  return format.name == "fp8_b128" && format.fits(rows, cols) &&
         transform == InputTransform::Kind::kNone;
}

Result<std::vector<EncodedTensor>> write(const std::string& name, QuantizedTensor& matrix,
                                         const InputTransform&) {
  return write_float8(module_name(name), "weight_scale_inv", matrix);
}

Result<Json> config(std::span<const WrittenMatrix> matrices) {
  QUENCH_TRY_VOID(refuse_embedding(matrices, "fp8"));
  return Json{{"quant_method", "fp8"},
              {"fmt", "e4m3"},
              {"activation_scheme", "dynamic"},
              {"weight_block_size", {128, 128}},
              {"modules_to_not_convert", plain_modules(matrices)}};
}

constexpr QuantWriter kWriters[] = {
    {"fp8", "Qwen's FP8: e4m3 in blocks of 128 x 128", accepts, write, config}};

}  // namespace

extern const QuantMethod fp8_quant;
const QuantMethod fp8_quant = {"fp8", "Qwen's FP8: e4m3 with a scale per block", open, kWriters};

}  // namespace quench
