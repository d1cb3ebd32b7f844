// QuantWriter: how one kind of quantized checkpoint is written, matrix by matrix, so that a model
// of any size streams through. The counterpart of QuantReader (stored_matrix.h): what a writer
// makes of a matrix, its method reads back as the same Format with the same planes. Tables of
// functions that keep no state; any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "formats/input_transform.h"
#include "formats/quantized_tensor.h"
#include "io/safetensors_writer.h"

namespace quench {

// A tensor of the checkpoint to be written. Its bytes lie in `owned`, or in the planes of the
// matrix that it was made of, which must outlive it. Move only.
struct EncodedTensor {
  NewTensor tensor;
  std::span<const std::byte> data;
  std::vector<std::byte> owned;

  // Points into memory of somebody else.
  static EncodedTensor view(NewTensor tensor, std::span<const std::byte> data);
  // Takes the bytes over.
  static EncodedTensor own(NewTensor tensor, std::vector<std::byte> bytes);

  EncodedTensor(EncodedTensor&&) = default;
  EncodedTensor& operator=(EncodedTensor&&) = default;
  EncodedTensor(const EncodedTensor&) = delete;
  EncodedTensor& operator=(const EncodedTensor&) = delete;

 private:
  EncodedTensor() = default;
};

// One matrix of the checkpoint: "model.layers.0.mlp.up_proj.weight". f32, f16 and bf16 say that it
// is a plain tensor.
struct WrittenMatrix {
  std::string name;
  const Format* format = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  InputTransform::Kind transform = InputTransform::Kind::kNone;
};

struct QuantWriter {
  const char* name;         // what the user types: "gptq", "gptq_v2", "quench"
  const char* description;  // one line
  // Whether the layout can hold such a matrix: exactly, or, if it `rounds`, nearly.
  bool (*accepts)(const Format& format, int64_t rows, int64_t cols, InputTransform::Kind transform);
  // The tensors of one accepted matrix; y = (values of the matrix) T(x). `name` as in
  // WrittenMatrix. Names, types and shapes follow from format, shape and kind of transform alone.
  // An error when a value of this matrix has no place in the layout (a scale beyond f16). A layout
  // that rounds what it is given changes the matrix to what it has written.
  Result<std::vector<EncodedTensor>> (*write)(const std::string& name, QuantizedTensor& matrix,
                                              const InputTransform& transform);
  // config.json's "quantization_config" for all matrices of the model, plain ones included. An
  // error when the layout has one setting where these matrices differ.
  Result<Json> (*config)(std::span<const WrittenMatrix> matrices);
  bool rounds = false;
};

// Every writer of every method.
std::vector<const QuantWriter*> all_quant_writers();
Result<const QuantWriter*> require_quant_writer(std::string_view name);
// Holds no quantized matrix; its configuration is null. Not one of the above.
const QuantWriter& plain_writer();

}  // namespace quench
