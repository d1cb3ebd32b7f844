#include <algorithm>
#include <set>
#include <unordered_map>

#include "engine/weight_source.h"
#include "io/check_tensors.h"
#include "io/stored_matrix.h"

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

// The tensor of the file that a spec is a part of, or all of.
int64_t file_rows(const TensorSpec& spec) {
  return spec.file_rows > 0 ? spec.file_rows : spec.rows;
}

class CheckpointSource : public WeightSource {
 public:
  CheckpointSource(const Checkpoint& checkpoint, std::unique_ptr<QuantReader> reader)
      : checkpoint_(checkpoint), reader_(std::move(reader)) {}

  // Finds the matrices that are stored quantized. `parts` receives the names of their tensors.
  Result<void> find_quantized(const Family& family, const ModelConfig& config,
                              std::set<std::string>& parts) {
    if (reader_ == nullptr) return {};
    Result<void> outcome;
    family.tensors(config, [&](const TensorSpec& spec) {
      if (!outcome || !role_row(spec.role).is_matrix || matrices_.contains(spec.name)) return;
      auto matrix = reader_->find(spec.name, file_rows(spec), spec.cols);
      if (!matrix) {
        outcome = tl::unexpected(matrix.error());
      } else if (*matrix) {
        for (const TensorEntry* entry : (*matrix)->entries) parts.insert(entry->name);
        matrices_.emplace(spec.name, **std::move(matrix));
      }
    });
    return outcome;
  }
  bool is_quantized(const std::string& name) const { return matrices_.contains(name); }
  std::vector<std::string> surplus() const {
    return reader_ == nullptr ? std::vector<std::string>() : reader_->surplus();
  }

  const Format* stored_format(const TensorSpec& spec) const override {
    if (const StoredMatrix* matrix = find(spec)) return matrix->format;
    const TensorEntry* entry = checkpoint_.find(spec.name);
    return entry == nullptr ? nullptr : format_of(entry->dtype);
  }

  const InputTransform* transform(const TensorSpec& spec) const override {
    const StoredMatrix* matrix = find(spec);
    return matrix == nullptr || !matrix->transform ? nullptr : &matrix->transform;
  }

  // The float formats have one plane whose rows follow each other as in the file.
  Result<ConstPlanes> stored_rows(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                                  std::optional<QuantizedTensor>& buffer) const override {
    const int64_t row = spec.row_begin + row_begin;
    if (const StoredMatrix* matrix = find(spec)) {
      if (matrix->planes[0] != nullptr)
        return matrix->format->row_planes(matrix->planes, row, spec.cols);
      buffer.emplace(*matrix->format, rows, spec.cols);
      QUENCH_TRY_VOID(matrix->read(row, rows, buffer->planes()));
      return std::as_const(*buffer).planes();
    }
    const TensorEntry& entry = *checkpoint_.find(spec.name);
    return ConstPlanes{entry.data.data() + row * spec.cols * dtype_bits(entry.dtype) / 8};
  }

  Result<void> read_rows(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                         float* out) const override {
    const StoredMatrix* matrix = find(spec);
    if (matrix == nullptr) {
      const TensorEntry& entry = *checkpoint_.find(spec.name);
      return decode_to_f32(entry.dtype, entry.data, (spec.row_begin + row_begin) * spec.cols,
                           {out, static_cast<size_t>(rows * spec.cols)});
    }
    std::optional<QuantizedTensor> buffer;
    QUENCH_TRY(const ConstPlanes planes, stored_rows(spec, row_begin, rows, buffer));
    matrix->format->decode_rows(planes, rows, spec.cols, out);
    if (!matrix->transform) return {};
    const auto cols = static_cast<size_t>(spec.cols);
    std::vector<float> stored(cols);
    for (int64_t r = 0; r < rows; ++r) {
      const std::span<float> row(out + r * spec.cols, cols);
      std::copy(row.begin(), row.end(), stored.begin());
      matrix->transform.row_to_original(stored, row);
    }
    return {};
  }

  void drop_rows(const TensorSpec& spec, int64_t row_begin, int64_t rows) const override {
    if (find(spec) != nullptr) return;
    const TensorEntry& entry = *checkpoint_.find(spec.name);
    const int64_t row_bytes = spec.cols * dtype_bits(entry.dtype) / 8;
    checkpoint_.drop(entry, (spec.row_begin + row_begin) * row_bytes, rows * row_bytes);
  }

  void drop(const TensorSpec& spec) const override {
    if (const StoredMatrix* matrix = find(spec)) {
      for (const TensorEntry* entry : matrix->entries) checkpoint_.drop(*entry);
    } else {
      checkpoint_.drop(*checkpoint_.find(spec.name));
    }
  }

 private:
  const StoredMatrix* find(const TensorSpec& spec) const {
    const auto it = matrices_.find(spec.name);
    return it == matrices_.end() ? nullptr : &it->second;
  }

  const Checkpoint& checkpoint_;
  std::unique_ptr<QuantReader> reader_;
  std::unordered_map<std::string, StoredMatrix> matrices_;  // by name of the matrix
};

// What must lie in the file as a plain tensor. Blocks of one fused tensor are several entries of
// the inventory and one of the file.
std::vector<ExpectedTensor> expected_tensors(const CheckpointSource& source, const Family& family,
                                             const ModelConfig& config) {
  std::vector<ExpectedTensor> expected;
  family.tensors(config, [&](const TensorSpec& spec) {
    if (spec.row_begin > 0 || source.is_quantized(spec.name)) return;
    const int64_t rows = file_rows(spec);
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
  QUENCH_TRY(std::unique_ptr<QuantReader> reader, open_quant_reader(checkpoint));
  auto source = std::make_unique<CheckpointSource>(checkpoint, std::move(reader));
  std::set<std::string> parts;
  QUENCH_TRY_VOID(source->find_quantized(family, config, parts));
  // Buffers that old checkpoints carry; and a copy of the embedding that some tied models store as
  // the head.
  std::vector<std::string> surplus = source->surplus();
  surplus.insert(surplus.end(), {"*.rotary_emb.inv_freq", "*.attn.masked_bias", "*.attn.bias"});
  if (config.tie_word_embeddings) surplus.emplace_back("lm_head.weight");
  const auto is_known = [&](const std::string& name) {
    return parts.contains(name) || std::any_of(surplus.begin(), surplus.end(), [&](const auto& p) {
             return matches_glob(name, p);
           });
  };
  QUENCH_TRY_VOID(check_tensors(checkpoint, expected_tensors(*source, family, config), is_known));
  for (const TensorEntry& entry : checkpoint.tensors()) {
    if (format_of(entry.dtype) != nullptr || is_known(entry.name)) continue;
    return fail(ErrorCode::kUnsupported,
                "{}: tensor \"{}\" has dtype {}; expected F32, F16 or BF16.", checkpoint.dir(),
                entry.name, dtype_name(entry.dtype));
  }
  return std::unique_ptr<WeightSource>(std::move(source));
}

}  // namespace quench
