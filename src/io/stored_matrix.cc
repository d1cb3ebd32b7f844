#include "io/stored_matrix.h"

#include <fmt/ranges.h>

namespace quench {

Result<std::unique_ptr<QuantReader>> open_quant_reader(const Checkpoint& checkpoint) {
  const Json* config = checkpoint.quantization_config();
  if (config == nullptr) return std::unique_ptr<QuantReader>();
  const Json name = config->value("quant_method", Json());
  const std::string text = name.is_string() ? name.get<std::string>() : std::string();
  std::vector<std::string> known;
  for (const QuantMethod* method : all_quant_methods()) {
    if (text == method->name) return method->open(checkpoint, *config);
    known.emplace_back(method->name);
  }
  return fail(ErrorCode::kUnsupported,
              "{}: the checkpoint is quantized by quant_method {}, which quench cannot read; it "
              "reads {}. Use the unquantized model and --format.",
              checkpoint.dir(), name.dump(), fmt::join(known, ", "));
}

}  // namespace quench
