#include "engine/generation_config.h"

#include <algorithm>
#include <limits>

namespace quench {
namespace {

// The value of a key, null when it is absent or null.
const Json* find(const Json& config, const char* key) {
  const auto it = config.find(key);
  return it == config.end() || it->is_null() ? nullptr : &*it;
}

tl::unexpected<Error> wrong_type(std::string_view where, const char* key, const Json& value,
                                 const char* expected) {
  return fail(ErrorCode::kInvalidFile, "{}: {} is of type {}, expected {}.", where, key,
              value.type_name(), expected);
}

Result<int32_t> to_int32(const Json& value, std::string_view where, const char* key) {
  if (!value.is_number_integer()) return wrong_type(where, key, value, "an integer");
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  // Integers above the range of int64_t are held unsigned.
  const bool huge = value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{kMax};
  if (huge || value.get<int64_t>() < -kMax || value.get<int64_t>() > kMax)
    return fail(ErrorCode::kInvalidFile, "{}: {} does not fit 32 bits.", where, key);
  return static_cast<int32_t>(value.get<int64_t>());
}

Result<void> read_double(const Json& config, std::string_view where, const char* key,
                         double* target) {
  const Json* value = find(config, key);
  if (value == nullptr) return {};
  if (!value->is_number()) return wrong_type(where, key, *value, "a number");
  *target = value->get<double>();
  return {};
}

Result<void> read_int(const Json& config, std::string_view where, const char* key, int* target) {
  const Json* value = find(config, key);
  if (value == nullptr) return {};
  QUENCH_TRY(*target, to_int32(*value, where, key));
  return {};
}

template <class T>
void add_once(std::vector<T>* list, T value) {
  if (std::find(list->begin(), list->end(), value) == list->end())
    list->push_back(std::move(value));
}

// Calls `add` for one value or for each of a list; `add` returns Result<void>.
template <class Add>
Result<void> for_each_value(const Json& config, const char* key, Add add) {
  const Json* value = find(config, key);
  if (value == nullptr) return {};
  if (!value->is_array()) return add(*value);
  for (const Json& element : *value) QUENCH_TRY_VOID(add(element));
  return {};
}

}  // namespace

Result<SamplingSettings> merge_generation_config(const Json& config, std::string_view where,
                                                 SamplingSettings base) {
  if (!config.is_object())
    return fail(ErrorCode::kInvalidFile, "{}: expected a JSON object, found {}.", where,
                config.type_name());
  SamplingSettings settings = std::move(base);
  if (const Json* value = find(config, "do_sample")) {
    if (!value->is_boolean()) return wrong_type(where, "do_sample", *value, "true or false");
    settings.greedy = !value->get<bool>();
  }
  QUENCH_TRY_VOID(read_double(config, where, "temperature", &settings.temperature));
  QUENCH_TRY_VOID(read_int(config, where, "top_k", &settings.top_k));
  QUENCH_TRY_VOID(read_double(config, where, "top_p", &settings.top_p));
  QUENCH_TRY_VOID(read_double(config, where, "min_p", &settings.min_p));
  QUENCH_TRY_VOID(read_double(config, where, "repetition_penalty", &settings.repetition_penalty));
  QUENCH_TRY_VOID(read_int(config, where, "max_new_tokens", &settings.max_new_tokens));
  QUENCH_TRY_VOID(for_each_value(config, "eos_token_id", [&](const Json& value) -> Result<void> {
    QUENCH_TRY(const int32_t id, to_int32(value, where, "eos_token_id"));
    add_once(&settings.stop_token_ids, id);
    return {};
  }));
  QUENCH_TRY_VOID(for_each_value(config, "stop_strings", [&](const Json& value) -> Result<void> {
    if (!value.is_string()) return wrong_type(where, "stop_strings", value, "a string");
    add_once(&settings.stop_strings, value.get<std::string>());
    return {};
  }));
  if (auto valid = validate(settings); !valid)
    return fail(ErrorCode::kInvalidFile, "{}: {}", where, valid.error().message);
  return settings;
}

}  // namespace quench
