// AWQ checkpoints: 4-bit codes with zero points.
//   version "gemm": qweight I32 [in, out / 8], qzeros I32 [groups, out / 8], scales F16 [groups,
//     out]; a word holds 8 outputs, output j of them at nibble kPlace[j];
//   version "gemv": qweight I32 [out, in / 8] and qzeros I32 [out, words] in natural order, scales
//     F16 [out, 8 * words]; words = ceil(groups / 8), rounded up to a multiple of 128 / group
//     where groups are smaller than that.
// AWQ's scaling of channels is folded into the tensors before; nothing is left to do. Layouts after
// AutoAWQ and GPTQModel 7.7.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/letters.h"
#include "io/hf_quant/config_parts.h"
#include "io/hf_quant/integer_parts.h"
#include "io/message.h"
#include "io/stored_matrix.h"

namespace quench {
namespace {

constexpr int kPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // nibble of output j in a word

uint8_t nibble(const TensorEntry& words, int64_t word, int place) {
  return load<uint32_t>(words.data.data() + word * 4) >> (4 * place) & 15;
}

// Of one matrix; codes and scales of some rows.
struct GemmParts {
  const TensorEntry* qweight;
  const TensorEntry* qzeros;
  const TensorEntry* scales;
  int64_t rows;
  int64_t cols;
  int64_t groups;

  void codes(int64_t row, int64_t num_rows, std::byte* out) const {
    // A run of inputs of all rows at a time: what is written stays in the first-level cache.
    constexpr int64_t kRun = 64;
    for (int64_t begin = 0; begin < cols; begin += kRun) {
      const int64_t end = std::min(begin + kRun, cols);
      for (int64_t r = 0; r < num_rows; ++r) {
        const int64_t word = (row + r) / 8;
        const int place = kPlace[(row + r) % 8];
        std::byte* to = out + (r * cols + begin) / 2;
        for (int64_t i = begin; i < end; i += 2) {
          *to++ = static_cast<std::byte>(nibble(*qweight, i * (rows / 8) + word, place) |
                                         nibble(*qweight, (i + 1) * (rows / 8) + word, place) << 4);
        }
      }
    }
  }
  void read_scales(int64_t row, int64_t num_rows, float* out, uint8_t* zeros) const {
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t r = 0; r < num_rows; ++r) {
        const int64_t at = g * rows + row + r;
        (void)decode_to_f32(scales->dtype, scales->data, at, {out + r * groups + g, 1});
        zeros[r * groups + g] = nibble(*qzeros, at / 8, kPlace[at % 8]);
      }
    }
  }
};

struct GemvParts {
  const TensorEntry* qweight;
  const TensorEntry* qzeros;
  const TensorEntry* scales;
  int64_t cols;
  int64_t groups;
  int64_t zero_words;  // of a row

  void codes(int64_t row, int64_t num_rows, std::byte* out) const {
    std::memcpy(out, qweight->data.data() + row * cols / 2,
                static_cast<size_t>(num_rows * cols / 2));
  }
  void read_scales(int64_t row, int64_t num_rows, float* out, uint8_t* zeros) const {
    for (int64_t r = 0; r < num_rows; ++r) {
      const int64_t words = (row + r) * zero_words;
      (void)decode_to_f32(scales->dtype, scales->data, words * 8,
                          {out + r * groups, static_cast<size_t>(groups)});
      for (int64_t g = 0; g < groups; ++g)
        zeros[r * groups + g] = nibble(*qzeros, words + g / 8, static_cast<int>(g % 8));
    }
  }
};

class AwqReader : public QuantReader {
 public:
  AwqReader(const Checkpoint& checkpoint, bool gemv, int64_t group)
      : checkpoint_(checkpoint), gemv_(gemv), group_(group) {}

  Result<std::optional<StoredMatrix>> find(const std::string& name, int64_t rows,
                                           int64_t cols) const override {
    PartFinder finder(checkpoint_, name);
    const std::string where = finder.where();
    if (checkpoint_.find(finder.stem() + ".qweight") == nullptr) return std::nullopt;
    const int64_t group = group_ > 0 ? group_ : cols;
    if (cols % 32 != 0 || rows % 8 != 0 || cols % group != 0) {
      return fail(ErrorCode::kUnsupported,
                  "{}: a matrix [{}, {}] in groups of {}; quench reads whole groups, columns in "
                  "multiples of 32 and rows in multiples of 8.",
                  where, rows, cols, group);
    }
    IntegerParts parts;
    parts.bits = 4;
    parts.rows = rows;
    parts.cols = cols;
    parts.groups = cols / group;
    parts.zero_point = true;
    const auto use = [&parts](auto source) {
      parts.scale_dtype = source.scales->dtype;
      parts.codes = [source](int64_t row, int64_t num_rows, std::byte* out) {
        source.codes(row, num_rows, out);
      };
      parts.scales = [source](int64_t row, int64_t num_rows, float* out, uint8_t* zeros) {
        source.read_scales(row, num_rows, out, zeros);
      };
    };
    const auto floats = {Dtype::kF16, Dtype::kBF16, Dtype::kF32};
    if (gemv_) {
      const int64_t step = std::max<int64_t>(1, std::min<int64_t>(4, 128 / group));
      const int64_t words = round_up(ceil_div(parts.groups, 8), step);
      GemvParts source{nullptr, nullptr, nullptr, cols, parts.groups, words};
      QUENCH_TRY(source.qweight, finder.require("qweight", {Dtype::kI32}, {rows, cols / 8}));
      QUENCH_TRY(source.qzeros, finder.require("qzeros", {Dtype::kI32}, {rows, words}));
      QUENCH_TRY(source.scales, finder.require("scales", floats, {rows, words * 8}));
      use(source);
    } else {
      GemmParts source{nullptr, nullptr, nullptr, rows, cols, parts.groups};
      QUENCH_TRY(source.qweight, finder.require("qweight", {Dtype::kI32}, {cols, rows / 8}));
      QUENCH_TRY(source.qzeros, finder.require("qzeros", {Dtype::kI32}, {parts.groups, rows / 8}));
      QUENCH_TRY(source.scales, finder.require("scales", floats, {parts.groups, rows}));
      use(source);
    }
    return integer_matrix(std::move(parts), finder.take_entries(), where);
  }

 private:
  const Checkpoint& checkpoint_;
  bool gemv_;
  int64_t group_;
};

Result<std::unique_ptr<QuantReader>> open(const Checkpoint& checkpoint, const Json& config) {
  const Json bits = setting(config, {"bits", "w_bit"}, 4);
  const Json group = setting(config, {"group_size", "q_group_size"}, 128);
  const Json version = setting(config, {"version", "format"}, "gemm");
  const std::string layout = version.is_string() ? small_letters(version.get<std::string>()) : "";
  if (bits != 4 || !group.is_number_integer() || (layout != "gemm" && layout != "gemv")) {
    return fail(ErrorCode::kUnsupported,
                "{}: quantization_config says bits {}, group_size {}, version {}; of AWQ quench "
                "reads 4 bits in the versions \"gemm\" and \"gemv\".",
                checkpoint.dir(), bits.dump(), group.dump(), version.dump());
  }
  return std::make_unique<AwqReader>(checkpoint, layout == "gemv", group.get<int64_t>());
}

bool accepts(const Format& format, int64_t rows, int64_t cols, InputTransform::Kind transform) {
  return integer_group(format) > 0 && format.bits == 4 && format.zero_point &&
         format.grid.scale == ScaleType::kF16 && rows % 8 == 0 && format.fits(rows, cols) &&
         transform == InputTransform::Kind::kNone;
}

Result<std::vector<EncodedTensor>> write(const std::string& name, QuantizedTensor& matrix,
                                         const InputTransform&) {
  const int64_t rows = matrix.rows();
  const int64_t cols = matrix.cols();
  const int64_t groups = cols / matrix.format().tile_cols;
  const ConstPlanes planes = std::as_const(matrix).planes();
  std::vector<std::byte> qweight(static_cast<size_t>(rows * cols / 2));
  std::vector<std::byte> qzeros(static_cast<size_t>(groups * rows / 2));
  std::vector<std::byte> scales(static_cast<size_t>(groups * rows * 2));
  const auto put = [rows](std::vector<std::byte>& words, int64_t line, int64_t row, int code) {
    const int place = kPlace[row % 8];
    words[static_cast<size_t>((line * rows + row / 8 * 8) / 2 + place / 2)] |=
        static_cast<std::byte>(code << (4 * (place % 2)));
  };
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < cols; ++i) {
      const int pair = static_cast<int>(planes[0][(row * cols + i) / 2]);
      put(qweight, i, row, pair >> (4 * (i % 2)) & 15);
    }
    for (int64_t g = 0; g < groups; ++g) {
      put(qzeros, g, row, static_cast<int>(planes[2][row * groups + g]) & 15);
      std::memcpy(scales.data() + (g * rows + row) * 2, planes[1] + (row * groups + g) * 2, 2);
    }
  }
  const std::string stem = module_name(name);
  std::vector<EncodedTensor> tensors;
  tensors.push_back(
      EncodedTensor::own({stem + ".qweight", Dtype::kI32, {cols, rows / 8}}, std::move(qweight)));
  tensors.push_back(
      EncodedTensor::own({stem + ".qzeros", Dtype::kI32, {groups, rows / 8}}, std::move(qzeros)));
  tensors.push_back(
      EncodedTensor::own({stem + ".scales", Dtype::kF16, {groups, rows}}, std::move(scales)));
  return tensors;
}

Result<Json> config(std::span<const WrittenMatrix> matrices) {
  QUENCH_TRY_VOID(refuse_embedding(matrices, "awq"));
  QUENCH_TRY_VOID(require_one_format(matrices, "awq"));
  const Json group = most_common(
      matrices, [](const WrittenMatrix& matrix) { return Json(matrix.format->tile_cols); });
  return Json{{"quant_method", "awq"}, {"bits", 4},
              {"group_size", group},   {"zero_point", true},
              {"version", "gemm"},     {"modules_to_not_convert", plain_modules(matrices)}};
}

constexpr QuantWriter kWriters[] = {
    {"awq", "AWQ, version gemm: 4 bits with zero points", accepts, write, config}};

}  // namespace

extern const QuantMethod awq_quant;
const QuantMethod awq_quant = {"awq", "AWQ: 4 bits with zero points, gemm and gemv", open,
                               kWriters};

}  // namespace quench
