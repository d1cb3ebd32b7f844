#include "measure/grid_runner.h"

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"
#include "base/random.h"
#include "measure/statistics.h"
#include "models/rope.h"

namespace quench {

double GridRow::median_tok_s() const { return median(tok_s); }
double GridRow::best_tok_s() const { return *std::max_element(tok_s.begin(), tok_s.end()); }

std::optional<double> GridRow::expected_error() const {
  if (expected_tok_s.empty() || expected_tok_s.size() != tok_s.size()) return std::nullopt;
  std::vector<double> errors;
  for (size_t i = 0; i < tok_s.size(); ++i) errors.push_back(tok_s[i] / expected_tok_s[i] - 1.0);
  return median(errors);
}

double GridRunner::run(const GridRow& row) {
  std::vector<SequenceState> states(static_cast<size_t>(row.batch));
  const int64_t length = row.depth + row.tokens;
  for (SequenceState& state : states) {
    state.rope_table = rope_table_for(runner_->config(), length);
    const bool reserved = runner_->reserve(state, length);
    QUENCH_CHECK(reserved, "the plan has no pages for {} tokens", length);
    runner_->fill_cache(state, row.depth, seed_);
  }
  const std::vector<int32_t> ids = draw_ids(row.tokens * row.batch);
  const double start_s = now_s();
  for_each_step(row, [&](const Step& step) {
    if (stop_ != nullptr && stop_->load(std::memory_order_relaxed)) return;
    std::vector<BatchEntry> entries;
    for (int64_t s = 0; s < row.batch; ++s) {
      const auto first = static_cast<size_t>(s * row.tokens + step.begin);
      entries.push_back({&states[static_cast<size_t>(s)],
                         std::span(ids).subspan(first, static_cast<size_t>(step.count)),
                         step.wants_logits ? 1 : 0});
    }
    logits_ = runner_->run(entries);
  });
  const double elapsed_s = now_s() - start_s;
  for (SequenceState& state : states) runner_->release(state);
  return elapsed_s;
}

PassLimit GridRunner::step_limit(const GridRow& row, const Step& step,
                                 const Ceilings& ceilings) const {
  return pass_limit(
      session_.plan(), ceilings,
      {step.count, row.depth + step.begin, row.batch, step.wants_logits ? row.batch : 0});
}

PassLimit GridRunner::limit(const GridRow& row, const Ceilings& ceilings) const {
  PassLimit sum;
  for_each_step(row, [&](const Step& step) {
    const PassLimit limit = step_limit(row, step, ceilings);
    sum.memory_s += limit.memory_s;
    sum.compute_s += limit.compute_s;
    sum.read_bytes += limit.read_bytes;
    sum.f32_flop += limit.f32_flop;
    sum.bf16_flop += limit.bf16_flop;
    sum.int8_op += limit.int8_op;
  });
  return sum;
}

void GridRunner::set_limit(const Ceilings& ceilings, GridRow& row) const {
  const auto tokens = static_cast<double>(row.tokens * row.batch);
  auto tok_s = [&](const Ceilings& by) {
    double limit_s = 0.0;
    for_each_step(row, [&](const Step& step) { limit_s += step_limit(row, step, by).limit_s(); });
    return tokens / limit_s;
  };
  const PassLimit sum = limit(row, ceilings);
  row.limit_tok_s = tok_s(ceilings);
  row.usual_limit_tok_s = tok_s(ceilings.usual());
  row.bound = sum.bound();
  row.read_bytes_per_token = static_cast<double>(sum.read_bytes) / tokens;
}

// Decode: one token of each sequence per step, each with its logits. Prefill: equal pieces of all
// sequences side by side, as many tokens as a step holds, logits for the last token of each.
void GridRunner::for_each_step(const GridRow& row,
                               const std::function<void(const Step&)>& use) const {
  const int64_t room = std::max<int64_t>(session_.plan().limits.max_tokens / row.batch, 1);
  const int64_t most = row.is_prefill ? room : 1;
  for (int64_t begin = 0; begin < row.tokens; begin += most) {
    const int64_t count = std::min(most, row.tokens - begin);
    use({begin, count, !row.is_prefill || begin + count == row.tokens});
  }
}

std::vector<int32_t> GridRunner::draw_ids(int64_t count) const {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  const auto rows = static_cast<double>(runner_->config().vocab_size);
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(random_uniform(seed_, i) * rows);
  return ids;
}

}  // namespace quench
