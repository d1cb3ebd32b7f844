// quench's own checkpoints: the canonical planes of any Format, one tensor each. The matrix
// "X.weight" in format F is stored as "X.weight.F.codes", "X.weight.F.scales", ...: U8 tensors
// [tile rows, bytes of the plane per tile row]. The name says everything, so that one file may mix
// formats without a table beside it. A matrix that was quantized in a rotated basis
// (formats/hadamard.h) has "X.weight.F.signs" too: bit i of byte i / 8 is set where sign i is -1.
// docs/formats.md describes it for other programs.
#include "base/bytes.h"
#include "formats/hadamard.h"
#include "io/message.h"
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
    if (const TensorEntry* signs = checkpoint_.find(prefix + format.name + ".signs")) {
      if (signs->dtype != Dtype::kU8 ||
          static_cast<int64_t>(signs->data.size()) != ceil_div(cols, 8)) {
        return fail(ErrorCode::kInvalidFile,
                    "{}: tensor {} has {} bytes of {}; expected {} bytes of U8, a bit per column.",
                    checkpoint_.dir(), in_quotes(signs->name), signs->data.size(),
                    dtype_name(signs->dtype), ceil_div(cols, 8));
      }
      if (odd_part(cols) > kMaxOddPart) {
        return fail(ErrorCode::kUnsupported,
                    "{}: {} is rotated, but its {} columns have the odd factor {}; at most {} is "
                    "supported.",
                    checkpoint_.dir(), in_quotes(name), cols, odd_part(cols), kMaxOddPart);
      }
      matrix.transform = InputTransform::from_sign_bits(cols, signs->data);
      matrix.entries.push_back(signs);
    }
    return matrix;
  }

 private:
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

}  // namespace

extern const QuantMethod quench_quant;
const QuantMethod quench_quant = {"quench", "own formats: planes of any of quench's formats", open};

}  // namespace quench
