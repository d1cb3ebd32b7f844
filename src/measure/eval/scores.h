// What two rows of logits say about each other. In double, from float32 logits; pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace quench {

// A row of logits with what is needed to read probabilities off it:
// log p(i) = logits[i] - log_normalizer, log_normalizer = max + log sum exp(logits - max).
struct LogitsRow {
  std::span<const float> logits;  // [vocab_size]
  double log_normalizer;
  int32_t top1;  // the largest, the lowest id of equals
};
LogitsRow read_logits(std::span<const float> logits);

// -log p(token), natural logarithm.
inline double negative_log_likelihood(const LogitsRow& row, int32_t token) {
  return row.log_normalizer - static_cast<double>(row.logits[static_cast<size_t>(token)]);
}

// p(i) of every id, for kl_divergence() against several candidates.
void probabilities(const LogitsRow& row, std::vector<double>& p);

// KL(reference || candidate) = sum p (log p - log q), in nats (Kullback, Leibler 1951), with p the
// probabilities of `reference`. Exactly 0 for equal rows. Not negative: a sum that rounding carries
// below 0 is 0.
double kl_divergence(const LogitsRow& reference, std::span<const double> p,
                     const LogitsRow& candidate);

}  // namespace quench
