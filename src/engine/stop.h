// When one generation ends, and which part of its text may be shown already.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quench/sampling.h"

namespace quench {

// One object per sequence, fed with each token in order; not shared between threads. Pieces are
// what the detokenizer releases: whole UTF-8 characters, possibly none for a token.
//
// A stop string is found wherever the borders of tokens lie. The text that may be shown ends before
// it; text that might be the beginning of one is held back until it is decided. Of several stop
// strings the one that is complete first counts, and of those complete at the same byte the
// longest: the result does not depend on how the text was cut into pieces.
class StopChecker {
 public:
  // Settings have passed validate().
  explicit StopChecker(const SamplingSettings& settings);

  struct Step {
    std::string text;                           // may be shown now, after what was returned before
    std::optional<FinishReason> finish_reason;  // set: this was the last token
  };

  // One generated token and its text. A stop token ends the text without its own piece. When a stop
  // and max_new_tokens come together the reason is kStop. Not to be called after the end.
  Step feed(int32_t token_id, std::string_view piece);

  // Ends the generation from outside (kCancelled, kError); returns the text held back.
  std::string finish(FinishReason reason);

  // Tokens fed so far, a stop token included.
  int64_t num_tokens() const { return num_tokens_; }
  std::optional<FinishReason> finish_reason() const { return finish_reason_; }
  // The stop string that ended the generation, or empty.
  const std::string& matched_string() const { return matched_string_; }

 private:
  // Appends the piece to the text held back; true when a stop string is complete in it, which is
  // then cut off together with all that follows.
  bool append_until_stop(std::string_view piece);
  // The longest end of held_ that begins a stop string, in bytes.
  size_t open_prefix_bytes() const;

  std::vector<int32_t> stop_token_ids_;
  std::vector<std::string> stop_strings_;  // longest first
  int64_t max_new_tokens_;
  int64_t num_tokens_ = 0;
  std::string held_;
  std::string matched_string_;
  std::optional<FinishReason> finish_reason_;
};

}  // namespace quench
