#include "io/stored_matrix.h"

#include <fmt/ranges.h>

#include <filesystem>

namespace quench {

namespace {

// Before config.json had a quantization_config, two programs wrote files of their own. Null: none.
Result<Json> separate_config(const Checkpoint& checkpoint) {
  constexpr std::pair<const char*, const char*> kFiles[] = {{"quantize_config.json", "gptq"},
                                                            {"quant_config.json", "awq"}};
  for (const auto& [file, method] : kFiles) {
    const std::string path = checkpoint.file_path(file);
    if (!std::filesystem::exists(path)) continue;
    QUENCH_TRY(Json config, read_json_file(path));
    if (!config.is_object()) {
      return fail(ErrorCode::kInvalidFile, "{}: expected an object, found {}.", path,
                  config.type_name());
    }
    if (!config.contains("quant_method")) config["quant_method"] = method;
    return config;
  }
  return Json();
}

}  // namespace

Result<std::unique_ptr<QuantReader>> open_quant_reader(const Checkpoint& checkpoint) {
  Json separate;
  const Json* config = checkpoint.quantization_config();
  if (config == nullptr) {
    QUENCH_TRY(separate, separate_config(checkpoint));
    if (separate.is_null()) return std::unique_ptr<QuantReader>();
    config = &separate;
  }
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
