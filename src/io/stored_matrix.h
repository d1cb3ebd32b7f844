// Quantized matrices as a checkpoint holds them. Every way of storing them (GPTQ's words, AWQ's
// order, planes of quench's own formats) is a QuantMethod, one file under io/hf_quant/; what they
// have in common is that the numbers of a matrix are exactly those of one of quench's Formats,
// so that a matrix is read by rearranging its codes, without loss.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/format.h"
#include "formats/input_transform.h"
#include "io/checkpoint.h"
#include "io/quant_writer.h"

namespace quench {

// One matrix [rows, cols]. Points into the checkpoint, which must outlive it. Any thread.
struct StoredMatrix {
  const Format* format = nullptr;  // its decoded values are those of the file
  int64_t rows = 0;
  int64_t cols = 0;
  InputTransform transform;  // y = (these values) T(x)
  // The canonical planes, when the file has them as they stand; otherwise null, and `read` makes
  // rows [row, row + num_rows) of them. row is a multiple of the format's tile_rows.
  ConstPlanes planes{};
  std::function<Result<void>(int64_t row, int64_t num_rows, const Planes& out)> read;
  std::vector<const TensorEntry*> entries;  // the tensors of the file that it consists of
};

// Reads the matrices of one checkpoint, which must outlive it. Any thread.
class QuantReader {
 public:
  virtual ~QuantReader() = default;
  // How the checkpoint holds the matrix that Hugging Face would call `name` ("....q_proj.weight").
  // Nothing when it is not quantized (a plain tensor, or none at all). Damaged or misshapen parts
  // are errors.
  virtual Result<std::optional<StoredMatrix>> find(const std::string& name, int64_t rows,
                                                   int64_t cols) const = 0;
  // Tensors that belong to the method but to no matrix, as names with '*': see check_tensors.h.
  virtual std::vector<std::string> surplus() const { return {}; }
};

struct QuantMethod {
  const char* name;         // "quant_method" of the config's "quantization_config"
  const char* description;  // one line
  Result<std::unique_ptr<QuantReader>> (*open)(const Checkpoint& checkpoint, const Json& config);
  std::span<const QuantWriter> writers;  // the variants of it that can be written
};

// Every method, generated from io/hf_quant/*.cc by the build.
std::span<const QuantMethod* const> all_quant_methods();

// The reader that the checkpoint's quantization_config asks for; null when it has none. A method
// that is not known is an error that lists the known.
Result<std::unique_ptr<QuantReader>> open_quant_reader(const Checkpoint& checkpoint);

}  // namespace quench
