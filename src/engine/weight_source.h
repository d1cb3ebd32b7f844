// WeightSource: where the numbers of a model come from, row by row. Two kinds: a checkpoint's
// mapped files, and seeded random values for a shape without files.
#pragma once

#include <memory>
#include <optional>

#include "formats/input_transform.h"
#include "formats/quantized_tensor.h"
#include "io/checkpoint.h"
#include "models/family.h"
#include "plan/plan.h"

namespace quench {

// Every call may come from any thread.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // The format the source holds the tensor in; null when it has none.
  virtual const Format* stored_format(const TensorSpec& spec) const = 0;
  // What the input of the stored matrix goes through first; null: nothing. Valid as long as the
  // source.
  virtual const InputTransform* transform(const TensorSpec&) const { return nullptr; }
  // Rows [row_begin, row_begin + rows) in the stored format, as it has them: a view of the source's
  // memory, or of `buffer`, which is filled when the source holds them in another order. Null
  // planes: there is no stored format to be had.
  virtual Result<ConstPlanes> stored_rows(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                                          std::optional<QuantizedTensor>& buffer) const = 0;
  // Decodes rows to out [rows, cols] f32, in the basis of the model (no transform of the input).
  virtual Result<void> read_rows(const TensorSpec& spec, int64_t row_begin, int64_t rows,
                                 float* out) const = 0;
  // These rows are packed: their pages are not needed again. What is left of a tensor goes with
  // drop().
  virtual void drop_rows(const TensorSpec&, int64_t /*row_begin*/, int64_t /*rows*/) const {}
  // The tensor is packed; its pages are not needed again.
  virtual void drop(const TensorSpec& spec) const = 0;
};

// Checks the checkpoint against the family's inventory first: missing, surplus and misshapen
// tensors are errors. The checkpoint must outlive the source.
Result<std::unique_ptr<WeightSource>> open_checkpoint_source(const Checkpoint& checkpoint,
                                                             const Family& family,
                                                             const ModelConfig& config);

// Values drawn by (seed, tensor name, row): the same on every machine, for any number of threads.
// Matrices are uniform with standard deviation 1/sqrt(cols), norms near 1, biases small, so that
// activations stay in a sane range. Roles that the recipe wants in a trellis format are held in it,
// as random codes in a rotated basis: finding good codes takes minutes and changes no speed.
std::unique_ptr<WeightSource> make_random_source(uint64_t seed, const Recipe& recipe);

}  // namespace quench
