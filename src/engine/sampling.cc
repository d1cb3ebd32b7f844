#include "quench/sampling.h"

#include <cmath>

#include "base/check.h"
#include "base/result.h"

namespace quench {
namespace {

// False for NaN.
bool within(double value, double low, double high) { return value >= low && value <= high; }

Result<void> check_range(const char* name, double value, double low, double high) {
  if (within(value, low, high)) return {};
  return fail(ErrorCode::kInvalidArgument, "{} is {}, it must be between {} and {}.", name, value,
              low, high);
}

}  // namespace

Result<void> validate(const SamplingSettings& settings) {
  if (!std::isfinite(settings.temperature) || settings.temperature < 0)
    return fail(ErrorCode::kInvalidArgument, "temperature is {}, it must be 0 (greedy) or more.",
                settings.temperature);
  if (settings.top_k < 0)
    return fail(ErrorCode::kInvalidArgument, "top_k is {}, it must be 0 (off) or more.",
                settings.top_k);
  QUENCH_TRY_VOID(check_range("top_p", settings.top_p, 0, 1));
  QUENCH_TRY_VOID(check_range("min_p", settings.min_p, 0, 1));
  if (!std::isfinite(settings.repetition_penalty) || settings.repetition_penalty <= 0)
    return fail(ErrorCode::kInvalidArgument,
                "repetition_penalty is {}, it must be above 0 (1 turns it off).",
                settings.repetition_penalty);
  QUENCH_TRY_VOID(check_range("presence_penalty", settings.presence_penalty, -2, 2));
  QUENCH_TRY_VOID(check_range("frequency_penalty", settings.frequency_penalty, -2, 2));
  for (const auto& [id, bias] : settings.logit_bias) {
    if (id < 0)
      return fail(ErrorCode::kInvalidArgument, "logit_bias names token id {}, ids start at 0.", id);
    if (!within(bias, -100, 100))
      return fail(ErrorCode::kInvalidArgument,
                  "logit_bias of token {} is {}, it must be between -100 and 100.", id, bias);
  }
  if (settings.max_new_tokens < 1)
    return fail(ErrorCode::kInvalidArgument, "max_new_tokens is {}, it must be 1 or more.",
                settings.max_new_tokens);
  for (int32_t id : settings.stop_token_ids) {
    if (id < 0)
      return fail(ErrorCode::kInvalidArgument, "stop_token_ids holds {}, ids start at 0.", id);
  }
  for (const std::string& text : settings.stop_strings) {
    if (text.empty())
      return fail(ErrorCode::kInvalidArgument,
                  "stop_strings holds an empty string, which would stop before the first token.");
  }
  return {};
}

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  QUENCH_CHECK(false, "no name for finish reason {}", static_cast<int>(reason));
}

}  // namespace quench
