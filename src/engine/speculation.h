// Speculation by prompt lookup (Saxena 2023): what followed the last time the current words stood
// there is probably what follows now, in code, quotes and tables above all. A step feeds such a
// draft together with the last token and draws from every row of logits; drawn tokens count as far
// as they equal the draft, plus one. Draws depend on seed and position alone, so that the tokens
// are those without speculation. Plain values; nothing here knows a model.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quench {

// Up to `most` tokens that followed the last earlier occurrence of the final kDraftGram tokens;
// empty when there was none. A draft that reaches the end of `tokens` goes on with itself.
constexpr int64_t kDraftGram = 3;
std::vector<int32_t> look_up_draft(std::span<const int32_t> tokens, int64_t most);

// How long the next draft of one sequence may be, from how the earlier ones did. A row too many
// costs less than a step saved as long as reading the weights is what takes the time, so a draft
// that was right doubles the next and a wrong one cuts it to what was right. After drafts without
// a right token come pauses of 1, 2, 4, ... 64 steps. Counts only, no times: replays agree.
class DraftLength {
 public:
  // For the step that comes now; 0 in a pause.
  int64_t next(int64_t most);
  void verified(int64_t drafted, int64_t accepted);

 private:
  static constexpr int64_t kFirst = 2;
  static constexpr int64_t kLongestPause = 64;
  int64_t length_ = kFirst;
  int64_t pause_ = 0;       // steps left without a draft
  int64_t next_pause_ = 1;  // after the next draft without a right token
};

}  // namespace quench
