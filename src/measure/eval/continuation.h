// The continuation test: an accuracy for any text. A model reads the beginning of a passage and
// chooses between its true continuation and three others of the same length, from other places of
// the same domain, by their log-likelihood. Guessing gives 25 %. Items are drawn by a fixed rule,
// so that all models answer the same ones.
#pragma once

#include "measure/eval/evaluate.h"

namespace quench {

struct ContinuationItem {
  std::span<const TokenId> context;
  std::array<std::span<const TokenId>, 4> choices;
  size_t answer;  // index into choices
};

constexpr int64_t kContinuationContext = 64;  // tokens read
constexpr int64_t kContinuationLength = 16;   // tokens of a choice

// At most `count` items, evenly spaced over the domain's documents; fewer where the texts are
// short. They point into `domain`.
std::vector<ContinuationItem> draw_continuations(const EvalDomain& domain, int64_t count);

// Asks every model and sets the accuracies of its scores.
Result<void> score_continuations(const std::vector<JudgedModel>& models, const EvalTexts& texts,
                                 const EvalOptions& options);

}  // namespace quench
