#include "io/quant_writer.h"

#include <fmt/ranges.h>

#include "io/stored_matrix.h"

namespace quench {

EncodedTensor EncodedTensor::view(NewTensor tensor, std::span<const std::byte> data) {
  EncodedTensor result;
  result.tensor = std::move(tensor);
  result.data = data;
  return result;
}

// A vector that moves keeps its memory, so that `data` stays right.
EncodedTensor EncodedTensor::own(NewTensor tensor, std::vector<std::byte> bytes) {
  EncodedTensor result;
  result.tensor = std::move(tensor);
  result.owned = std::move(bytes);
  result.data = result.owned;
  return result;
}

std::vector<const QuantWriter*> all_quant_writers() {
  std::vector<const QuantWriter*> writers;
  for (const QuantMethod* method : all_quant_methods()) {
    for (const QuantWriter& writer : method->writers) writers.push_back(&writer);
  }
  return writers;
}

const QuantWriter& plain_writer() {
  static constexpr QuantWriter kWriter = {
      "plain", "every tensor in a float format, as models are published",
      [](const Format&, int64_t, int64_t, InputTransform::Kind) { return false; },
      [](const std::string& name, QuantizedTensor&, const InputTransform&) {
        return Result<std::vector<EncodedTensor>>(
            fail(ErrorCode::kInternal, "{}: a plain checkpoint holds no quantized matrix.", name));
      },
      [](std::span<const WrittenMatrix>) { return Result<Json>(Json()); }};
  return kWriter;
}

Result<const QuantWriter*> require_quant_writer(std::string_view name) {
  std::vector<std::string> names;
  for (const QuantWriter* writer : all_quant_writers()) {
    if (name == writer->name) return writer;
    names.emplace_back(writer->name);
  }
  return fail(ErrorCode::kInvalidArgument, "Unknown layout \"{}\"; known are {}.", name,
              fmt::join(names, ", "));
}

}  // namespace quench
