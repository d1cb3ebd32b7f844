#include "engine/stop.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace quench {

StopChecker::StopChecker(const SamplingSettings& settings)
    : stop_token_ids_(settings.stop_token_ids),
      stop_strings_(settings.stop_strings),
      max_new_tokens_(settings.max_new_tokens) {
  std::sort(stop_strings_.begin(), stop_strings_.end(),
            [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
}

bool StopChecker::append_until_stop(std::string_view piece) {
  held_.reserve(held_.size() + piece.size());
  for (char byte : piece) {
    held_.push_back(byte);
    for (const std::string& stop : stop_strings_) {
      if (!held_.ends_with(stop)) continue;
      held_.resize(held_.size() - stop.size());
      matched_string_ = stop;
      return true;
    }
  }
  return false;
}

size_t StopChecker::open_prefix_bytes() const {
  const std::string_view held = held_;
  size_t longest = 0;
  for (const std::string& stop : stop_strings_) {
    const size_t limit = std::min(stop.size() - 1, held.size());
    for (size_t bytes = limit; bytes > longest; --bytes) {
      if (!stop.starts_with(held.substr(held.size() - bytes))) continue;
      longest = bytes;
      break;
    }
  }
  return longest;
}

StopChecker::Step StopChecker::feed(int32_t token_id, std::string_view piece) {
  QUENCH_CHECK(!finish_reason_, "token {} after the end of the generation", token_id);
  ++num_tokens_;
  const bool is_stop_token =
      std::find(stop_token_ids_.begin(), stop_token_ids_.end(), token_id) != stop_token_ids_.end();
  if (is_stop_token || append_until_stop(piece)) {
    finish_reason_ = FinishReason::kStop;
  } else if (num_tokens_ >= max_new_tokens_) {
    finish_reason_ = FinishReason::kLength;
  }
  Step step{.text = {}, .finish_reason = finish_reason_};
  if (finish_reason_) {
    step.text = std::exchange(held_, {});
  } else {
    const size_t shown_bytes = held_.size() - open_prefix_bytes();
    step.text = held_.substr(0, shown_bytes);
    held_.erase(0, shown_bytes);
  }
  return step;
}

std::string StopChecker::finish(FinishReason reason) {
  QUENCH_CHECK(!finish_reason_, "the generation ended before");
  finish_reason_ = reason;
  return std::exchange(held_, {});
}

}  // namespace quench
