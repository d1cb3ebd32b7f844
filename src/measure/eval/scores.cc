#include "measure/eval/scores.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace quench {

LogitsRow read_logits(std::span<const float> logits) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - *largest);
  return {logits, *largest + std::log(sum), static_cast<int32_t>(largest - logits.begin())};
}

void probabilities(const LogitsRow& row, std::vector<double>& p) {
  p.resize(row.logits.size());
  for (size_t i = 0; i < p.size(); ++i)
    p[i] = std::exp(static_cast<double>(row.logits[i]) - row.log_normalizer);
}

double kl_divergence(const LogitsRow& reference, std::span<const double> p,
                     const LogitsRow& candidate) {
  QUENCH_CHECK(
      reference.logits.size() == candidate.logits.size() && p.size() == reference.logits.size(),
      "vocabularies of {} and {}", reference.logits.size(), candidate.logits.size());
  // log p - log q = (a - b) - (log_normalizer_a - log_normalizer_b). The second part is the same in
  // every term and sum p = 1.
  double sum = 0.0;
  for (size_t i = 0; i < p.size(); ++i) {
    sum += p[i] *
           (static_cast<double>(reference.logits[i]) - static_cast<double>(candidate.logits[i]));
  }
  return std::max(0.0, sum - (reference.log_normalizer - candidate.log_normalizer));
}

}  // namespace quench
