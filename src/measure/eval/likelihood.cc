#include "measure/eval/likelihood.h"

#include <algorithm>

#include "base/check.h"
#include "measure/eval/scores.h"

namespace quench {

Result<double> log_likelihood(Runner& runner, std::span<const int32_t> ids, size_t first) {
  QUENCH_CHECK(first > 0 && first < ids.size(), "token {} of {}", first, ids.size());
  // The last token predicts nothing that is asked for.
  const auto length = static_cast<int64_t>(ids.size()) - 1;
  const auto vocab = static_cast<size_t>(runner.config().vocab_size);
  const WorkspaceLimits& limits = runner.plan().limits;
  SequenceState state;
  state.rope_table = rope_table_for(runner.config(), length);
  if (length > runner.plan().max_seq_len || !runner.reserve(state, length)) {
    return fail(ErrorCode::kInvalidArgument,
                "A question of {} tokens needs a longer context than {}; raise --max-seq-len.",
                length, runner.plan().max_seq_len);
  }
  double sum = 0.0;
  const auto first_row = static_cast<int64_t>(first) - 1;
  for (int64_t position = 0; position < length;) {
    const bool scored = position >= first_row;
    const int64_t end = scored ? length : first_row;
    const int64_t most =
        scored ? std::min(limits.max_tokens, limits.max_logit_rows) : limits.max_tokens;
    const int64_t count = std::min(most, end - position);
    const auto chunk = ids.subspan(static_cast<size_t>(position), static_cast<size_t>(count));
    const BatchEntry entry = {&state, chunk, scored ? count : 0};
    const std::span<const float> logits = runner.run({&entry, 1});
    for (size_t i = 0; scored && i < static_cast<size_t>(count); ++i) {
      const LogitsRow row = read_logits(logits.subspan(i * vocab, vocab));
      sum -= negative_log_likelihood(row, ids[static_cast<size_t>(position) + i + 1]);
    }
    position += count;
  }
  runner.release(state);
  return sum;
}

}  // namespace quench
