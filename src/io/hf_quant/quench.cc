// quench's own checkpoints: the canonical planes of any Format, one tensor each. The matrix
// "X.weight" in format F is stored as "X.weight.F.codes", "X.weight.F.scales", ...: U8 tensors
// [tile rows, bytes of the plane per tile row]. The name says everything, so that one file may mix
// formats without a table beside it. What its input goes through is one more tensor:
// "X.weight.F.permutation", I32 [cols], or "X.weight.F.signs", U8 [ceil(cols / 8)], the signs of a
// Hadamard rotation: bit i of byte i / 8 is set where sign i is -1. docs/formats.md describes it
// for other programs.
#include "base/bytes.h"
#include "formats/hadamard.h"
#include "io/message.h"
#include "io/quant_writer.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

class QuenchReader : public QuantReader {
 public:
  explicit QuenchReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  Result<std::optional<StoredMatrix>> find(const std::string& name, int64_t rows,
                                           int64_t cols) const override {
    const std::vector<TensorEntry>& tensors = checkpoint_.tensors();
    const std::string prefix = name + ".";
    auto it = std::lower_bound(
        tensors.begin(), tensors.end(), prefix,
        [](const TensorEntry& entry, const std::string& key) { return entry.name < key; });
    if (it == tensors.end() || !it->name.starts_with(prefix)) return std::nullopt;
    const std::string format_name =
        it->name.substr(prefix.size(), it->name.rfind('.') - prefix.size());
    StoredMatrix matrix;
    matrix.format = find_format(format_name);
    if (matrix.format == nullptr) {
      return fail(ErrorCode::kUnsupported,
                  "{}: tensor {} is in format \"{}\", which this version does not know; see "
                  "quench list formats.",
                  checkpoint_.dir(), in_quotes(it->name), format_name);
    }
    const Format& format = *matrix.format;
    if (!format.fits(rows, cols)) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: {} is stored in format {}, which does not divide its shape [{}, {}].",
                  checkpoint_.dir(), in_quotes(name), format.name, rows, cols);
    }
    matrix.rows = rows;
    matrix.cols = cols;
    for (size_t p = 0; p < format.planes.size(); ++p) {
      const std::string part = prefix + format.name + "." + format.planes[p].name;
      const TensorEntry* entry = checkpoint_.find(part);
      if (entry == nullptr) {
        return fail(ErrorCode::kInvalidFile, "{}: tensor {} is missing; the file is incomplete.",
                    checkpoint_.dir(), in_quotes(part));
      }
      const int64_t expected = format.plane_bytes(static_cast<int>(p), rows, cols);
      if (entry->dtype != Dtype::kU8 || static_cast<int64_t>(entry->data.size()) != expected) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: tensor {} has {} bytes of {}; expected {} bytes of U8 for shape [{}, {}].",
                    checkpoint_.dir(), in_quotes(part), entry->data.size(),
                    dtype_name(entry->dtype), expected, rows, cols);
      }
      matrix.planes[p] = entry->data.data();
      matrix.entries.push_back(entry);
    }
    QUENCH_TRY_VOID(find_transform(prefix + format.name, matrix));
    return matrix;
  }

 private:
  Result<void> find_transform(const std::string& stem, StoredMatrix& matrix) const {
    const auto cols = static_cast<size_t>(matrix.cols);
    const TensorEntry* permutation = checkpoint_.find(stem + ".permutation");
    const TensorEntry* signs = checkpoint_.find(stem + ".signs");
    const TensorEntry* entry = permutation != nullptr ? permutation : signs;
    if (entry == nullptr) return {};
    const Dtype dtype = permutation != nullptr ? Dtype::kI32 : Dtype::kU8;
    const size_t bytes = permutation != nullptr ? 4 * cols : (cols + 7) / 8;
    if ((permutation != nullptr && signs != nullptr) || entry->dtype != dtype ||
        entry->data.size() != bytes) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: tensor {} is {} {}; expected {} bytes of {}, and one transform only.",
                  checkpoint_.dir(), in_quotes(entry->name), dtype_name(entry->dtype),
                  shape_text(entry->shape), bytes, dtype_name(dtype));
    }
    if (permutation != nullptr) {
      std::vector<int32_t> order(cols);
      std::memcpy(order.data(), entry->data.data(), entry->data.size());
      if (!is_permutation(order)) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: tensor {} is no permutation of 0 to {}; the file is damaged.",
                    checkpoint_.dir(), in_quotes(entry->name), cols - 1);
      }
      matrix.transform = InputTransform::permute(std::move(order));
    } else if (odd_part(matrix.cols) > kMaxOddPart) {
      return fail(ErrorCode::kUnsupported,
                  "{}: {} rotates {} columns with the odd factor {}; at most {} is supported.",
                  checkpoint_.dir(), in_quotes(entry->name), cols, odd_part(matrix.cols),
                  kMaxOddPart);
    } else {
      matrix.transform = InputTransform::from_sign_bits(matrix.cols, entry->data);
    }
    matrix.entries.push_back(entry);
    return {};
  }

  const Checkpoint& checkpoint_;
};

Result<std::unique_ptr<QuantReader>> open(const Checkpoint& checkpoint, const Json& config) {
  const Json version = config.value("version", Json());
  if (version != 1) {
    return fail(ErrorCode::kUnsupported,
                "{}: quantization_config is version {}, this program reads version 1; use a newer "
                "quench.",
                checkpoint.dir(), version.dump());
  }
  return std::make_unique<QuenchReader>(checkpoint);
}

bool accepts(const Format& format, int64_t rows, int64_t cols, InputTransform::Kind) {
  return format.fits(rows, cols);
}

Result<std::vector<EncodedTensor>> write(const std::string& name, QuantizedTensor& matrix,
                                         const InputTransform& transform) {
  const Format& format = matrix.format();
  const std::string stem = name + "." + format.name + ".";
  const int64_t tile_rows = matrix.rows() / format.tile_rows;
  std::vector<EncodedTensor> tensors;
  for (size_t p = 0; p < format.planes.size(); ++p) {
    const int64_t bytes = format.plane_bytes(static_cast<int>(p), matrix.rows(), matrix.cols());
    tensors.push_back(EncodedTensor::view(
        {stem + format.planes[p].name, Dtype::kU8, {tile_rows, bytes / tile_rows}},
        {matrix.planes()[p], static_cast<size_t>(bytes)}));
  }
  if (transform.kind == InputTransform::Kind::kPermutation) {
    const auto bytes = std::as_bytes(std::span(transform.permutation));
    tensors.push_back(EncodedTensor::own({stem + "permutation", Dtype::kI32, {matrix.cols()}},
                                         {bytes.begin(), bytes.end()}));
  } else if (transform.kind == InputTransform::Kind::kHadamard) {
    std::vector<std::byte> signs = transform.sign_bits();
    const auto bytes = static_cast<int64_t>(signs.size());
    tensors.push_back(EncodedTensor::own({stem + "signs", Dtype::kU8, {bytes}}, std::move(signs)));
  }
  return tensors;
}

// The names of the tensors say the rest.
Result<Json> config(std::span<const WrittenMatrix>) {
  return Json{{"quant_method", "quench"}, {"version", 1}};
}

constexpr const char* kDescription = "own formats: planes of any of quench's formats";
constexpr QuantWriter kWriters[] = {{"quench", kDescription, accepts, write, config}};

}  // namespace

extern const QuantMethod quench_quant;
const QuantMethod quench_quant = {"quench", kDescription, open, kWriters};

}  // namespace quench
