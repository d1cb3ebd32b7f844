#include "engine/speculation.h"

#include <algorithm>

namespace quench {

std::vector<int32_t> look_up_draft(std::span<const int32_t> tokens, int64_t most) {
  std::vector<int32_t> draft;
  const auto length = static_cast<int64_t>(tokens.size());
  if (most <= 0 || length <= kDraftGram) return draft;
  const auto gram = tokens.last(kDraftGram);
  // `end` is where the occurrence ends: the last token first, because it seldom agrees.
  int64_t end = length - 1;
  while (end >= kDraftGram &&
         (tokens[static_cast<size_t>(end - 1)] != gram.back() ||
          !std::equal(gram.begin(), gram.end(), tokens.begin() + (end - kDraftGram)))) {
    --end;
  }
  if (end < kDraftGram) return draft;
  for (int64_t i = 0; i < most; ++i) {
    const int64_t from = end + i;
    draft.push_back(from < length ? tokens[static_cast<size_t>(from)]
                                  : draft[static_cast<size_t>(from - length)]);
  }
  return draft;
}

int64_t DraftLength::next(int64_t most) {
  if (pause_ > 0) {
    --pause_;
    return 0;
  }
  return std::min(length_, most);
}

void DraftLength::verified(int64_t drafted, int64_t accepted) {
  if (accepted == 0) {
    pause_ = next_pause_;
    next_pause_ = std::min(2 * next_pause_, kLongestPause);
    length_ = kFirst;
    return;
  }
  next_pause_ = 1;
  length_ = accepted == drafted ? 2 * drafted : accepted;
}

}  // namespace quench
