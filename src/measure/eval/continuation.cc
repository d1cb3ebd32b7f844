#include "measure/eval/continuation.h"

#include <algorithm>

#include "base/random.h"
#include "measure/eval/likelihood.h"

namespace quench {
namespace {

constexpr uint64_t kSeed = 20260401;  // of the fixed rule

// Log-likelihood of every choice after the context.
Result<size_t> choose(Runner& runner, const ContinuationItem& item) {
  std::array<double, 4> score{};
  for (size_t c = 0; c < item.choices.size(); ++c) {
    std::vector<TokenId> ids(item.context.begin(), item.context.end());
    ids.insert(ids.end(), item.choices[c].begin(), item.choices[c].end());
    QUENCH_TRY(score[c], log_likelihood(runner, ids, item.context.size()));
  }
  return static_cast<size_t>(std::max_element(score.begin(), score.end()) - score.begin());
}

}  // namespace

std::vector<ContinuationItem> draw_continuations(const EvalDomain& domain, int64_t count) {
  constexpr auto kContext = static_cast<size_t>(kContinuationContext);
  constexpr auto kLength = static_cast<size_t>(kContinuationLength);
  // Every place a passage may begin, half a passage apart.
  std::vector<std::span<const TokenId>> places;
  for (const std::vector<TokenId>& document : domain.documents) {
    for (size_t begin = 0; begin + kContext + kLength <= document.size();
         begin += (kContext + kLength) / 2) {
      places.push_back(std::span(document).subspan(begin, kContext + kLength));
    }
  }
  std::vector<ContinuationItem> items;
  // Three others must lie elsewhere, not in an overlapping passage.
  if (places.size() < 8) return items;
  const size_t n = std::min(static_cast<size_t>(count), places.size());
  for (size_t i = 0; i < n; ++i) {
    const size_t place = i * places.size() / n;
    ContinuationItem item;
    item.context = places[place].first(kContext);
    item.answer = static_cast<size_t>(random_bits(kSeed, i) % 4);
    // A fourth of the places away each: different from the passage and from each other.
    size_t other = 1;
    for (size_t c = 0; c < 4; ++c) {
      const size_t from =
          c == item.answer ? place : (place + other++ * places.size() / 4) % places.size();
      item.choices[c] = places[from].last(kLength);
    }
    items.push_back(item);
  }
  return items;
}

Result<void> score_continuations(const std::vector<JudgedModel>& models, const EvalTexts& texts,
                                 const EvalOptions& options) {
  std::vector<std::vector<ContinuationItem>> items;
  for (const EvalDomain& domain : texts.domains)
    items.push_back(draw_continuations(domain, options.continuation_items));
  for (const auto& [session, scores] : models) {
    Plan plan = session->plan();
    plan.limits.max_logit_rows = std::max(plan.limits.max_logit_rows, kContinuationLength);
    plan.workspace_bytes = workspace_bytes(plan.config, plan.limits);
    QUENCH_TRY(auto runner, Runner::create(plan, session->model(), session->device()));
    Accuracy all;
    for (size_t d = 0; d < items.size(); ++d) {
      Accuracy accuracy;
      for (const ContinuationItem& item : items[d]) {
        if (options.stop != nullptr && options.stop->load(std::memory_order_relaxed))
          return fail(ErrorCode::kCancelled, "The evaluation was stopped.");
        QUENCH_TRY(const size_t choice, choose(*runner, item));
        accuracy.correct += choice == item.answer ? 1 : 0;
        ++accuracy.n;
      }
      if (accuracy.n > 0) scores->domains[d].accuracy = accuracy;
      all.correct += accuracy.correct;
      all.n += accuracy.n;
    }
    if (all.n > 0) scores->overall.accuracy = all;
  }
  return {};
}

}  // namespace quench
