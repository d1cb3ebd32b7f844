#include "measure/eval/scores.h"

#include <gtest/gtest.h>

#include <cmath>

namespace quench {
namespace {

double divergence(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<double> p;
  const LogitsRow reference = read_logits(a);
  probabilities(reference, p);
  return kl_divergence(reference, p, read_logits(b));
}

TEST(Scores, LikelihoodOfKnownProbabilities) {
  // Probabilities 1/2, 1/4, 1/4, whatever the offset.
  const std::vector<float> logits = {100.0f + std::log(2.0f), 100.0f, 100.0f};
  const LogitsRow row = read_logits(logits);
  EXPECT_NEAR(negative_log_likelihood(row, 0), std::log(2.0), 1e-5);
  EXPECT_NEAR(negative_log_likelihood(row, 2), std::log(4.0), 1e-5);
  EXPECT_EQ(row.top1, 0);
  EXPECT_EQ(read_logits(std::vector<float>{1, 3, 3}).top1, 1);
}

TEST(Scores, DivergenceByHand) {
  // p = (1/2, 1/2), q = (1/4, 3/4): 1/2 log 2 + 1/2 log(2/3).
  const std::vector<float> p = {0.0f, 0.0f};
  const std::vector<float> q = {0.0f, std::log(3.0f)};
  const double expected = 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0);
  EXPECT_NEAR(divergence(p, q), expected, 1e-7);
  // The other way round: 1/4 log(1/2) + 3/4 log(3/2).
  EXPECT_NEAR(divergence(q, p), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
}

TEST(Scores, DivergenceFromItselfIsZero) {
  std::vector<float> row;
  for (int i = 0; i < 1000; ++i) row.push_back(std::sin(static_cast<float>(i)) * 20.0f);
  EXPECT_EQ(divergence(row, row), 0.0);
  std::vector<float> shifted = row;
  for (float& logit : shifted) logit += 8.0f;  // the same distribution, up to rounding
  EXPECT_GE(divergence(row, shifted), 0.0);
  EXPECT_NEAR(divergence(row, shifted), 0.0, 1e-6);
}

}  // namespace
}  // namespace quench
