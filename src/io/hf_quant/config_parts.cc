#include "io/hf_quant/config_parts.h"

#include <map>

namespace quench {

Json setting(const Json& config, std::initializer_list<const char*> keys, Json otherwise) {
  for (const char* key : keys) {
    const auto it = config.find(key);
    if (it != config.end() && !it->is_null()) return *it;
  }
  return otherwise;
}

std::string module_name(const std::string& matrix) {
  return matrix.ends_with(".weight") ? matrix.substr(0, matrix.size() - 7) : matrix;
}

bool is_plain(const Format& format) {
  return format.name == "f32" || format.name == "f16" || format.name == "bf16";
}

// In all of Qwen's families.
constexpr const char* kHeadModule = "lm_head";

bool is_embedding(const std::string& matrix) {
  const std::string module = module_name(matrix);
  return module.ends_with("embed_tokens") || module.ends_with("wte");
}

Result<void> refuse_embedding(std::span<const WrittenMatrix> matrices, const char* layout) {
  for (const WrittenMatrix& matrix : matrices) {
    if (is_plain(*matrix.format) || !is_embedding(matrix.name)) continue;
    return fail(ErrorCode::kInvalidArgument,
                "{} is to be stored as {}, but the layout {} has no quantized embedding; leave it "
                "in bf16 or write the layout quench.",
                matrix.name, matrix.format->name, layout);
  }
  return {};
}

Result<void> require_one_format(std::span<const WrittenMatrix> matrices, const char* layout) {
  const WrittenMatrix* first = nullptr;
  for (const WrittenMatrix& matrix : matrices) {
    if (is_plain(*matrix.format)) continue;
    if (first == nullptr) first = &matrix;
    if (matrix.format == first->format) continue;
    return fail(ErrorCode::kInvalidArgument,
                "{} is to be stored as {} and {} as {}, but the layout {} has one format for all; "
                "choose one, or the layout quench.",
                first->name, first->format->name, matrix.name, matrix.format->name, layout);
  }
  return {};
}

Json most_common(std::span<const WrittenMatrix> matrices,
                 const std::function<Json(const WrittenMatrix&)>& setting) {
  std::map<std::string, int> counts;
  Json best;
  int best_count = 0;
  for (const WrittenMatrix& matrix : matrices) {
    if (is_plain(*matrix.format)) continue;
    Json found = setting(matrix);
    const int count = ++counts[found.dump()];
    if (count <= best_count) continue;
    best_count = count;
    best = std::move(found);
  }
  return best;
}

Json plain_modules(std::span<const WrittenMatrix> matrices) {
  Json names = Json::array();
  bool has_head = false;
  for (const WrittenMatrix& matrix : matrices) {
    has_head = has_head || module_name(matrix.name) == kHeadModule;
    if (is_plain(*matrix.format) && !is_embedding(matrix.name))
      names.push_back(module_name(matrix.name));
  }
  if (!has_head) names.emplace_back(kHeadModule);
  return names;
}

std::string escape_regex(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '.') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace quench
