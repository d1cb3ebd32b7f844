#include <algorithm>

#include "base/bytes.h"
#include "engine/weight_source.h"
#include "io/check_tensors.h"

namespace quench {
namespace {

const Format* format_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return find_format("f32");
    case Dtype::kF16:
      return find_format("f16");
    case Dtype::kBF16:
      return find_format("bf16");
    default:
      return nullptr;
  }
}

class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const Format* stored_format(const TensorSpec& spec) const override {
    const TensorEntry* entry = checkpoint_.find(spec.name);
    return entry == nullptr ? nullptr : format_of(entry->dtype);
  }

  // The float formats have one plane whose rows follow each other as in the file.
  ConstPlanes stored_rows(const TensorSpec& spec, int64_t row_begin) const override {
    const TensorEntry& entry = *checkpoint_.find(spec.name);
    const int64_t row_bytes = spec.cols * dtype_bits(entry.dtype) / 8;
    return {entry.data.data() + (spec.row_begin + row_begin) * row_bytes};
  }

  Result<void> read_rows(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                         float* out) const override {
    const TensorEntry& entry = *checkpoint_.find(spec.name);
    return decode_to_f32(entry.dtype, entry.data, (spec.row_begin + row_begin) * spec.cols,
                         {out, static_cast<size_t>(rows * spec.cols)});
  }

  void drop(const TensorSpec& spec) const override {
    checkpoint_.drop(*checkpoint_.find(spec.name));
  }

 private:
  const Checkpoint& checkpoint_;
};

// Blocks of one fused tensor are several entries of the inventory and one of the file.
std::vector<ExpectedTensor> expected_tensors(const Family& family, const ModelConfig& config) {
  std::vector<ExpectedTensor> expected;
  family.tensors(config, [&](const TensorSpec& spec) {
    if (spec.row_begin > 0) return;
    const int64_t rows = spec.file_rows > 0 ? spec.file_rows : spec.rows;
    if (role_row(spec.role).is_matrix) {
      expected.push_back({spec.name, {rows, spec.cols}});
    } else {
      expected.push_back({spec.name, {rows * spec.cols}});
    }
  });
  return expected;
}

}  // namespace

Result<std::unique_ptr<WeightSource>> open_checkpoint_source(const Checkpoint& checkpoint,
                                                             const Family& family,
                                                             const ModelConfig& config) {
  if (const Json* quantization = checkpoint.quantization_config(); quantization != nullptr) {
    const Json method =
        quantization->is_object() ? quantization->value("quant_method", Json()) : Json();
    return fail(ErrorCode::kUnsupported,
                "{}: the checkpoint is quantized (quant_method {}), which quench cannot read yet; "
                "use the unquantized "
                "model and --format.",
                checkpoint.dir(), method.dump());
  }
  // Buffers that old checkpoints carry; and a copy of the embedding that some tied models store as
  // the head.
  std::vector<std::string> surplus = {"*.rotary_emb.inv_freq", "*.attn.masked_bias", "*.attn.bias"};
  if (config.tie_word_embeddings) surplus.emplace_back("lm_head.weight");
  QUENCH_TRY_VOID(check_tensors(checkpoint, expected_tensors(family, config), surplus));
  for (const TensorEntry& entry : checkpoint.tensors()) {
    if (format_of(entry.dtype) != nullptr) continue;
    if (std::any_of(surplus.begin(), surplus.end(),
                    [&](const auto& p) { return matches_glob(entry.name, p); }))
      continue;
    return fail(ErrorCode::kUnsupported,
                "{}: tensor \"{}\" has dtype {}; expected F32, F16 or BF16.", checkpoint.dir(),
                entry.name, dtype_name(entry.dtype));
  }
  return std::unique_ptr<WeightSource>(std::make_unique<CheckpointSource>(checkpoint));
}

}  // namespace quench
