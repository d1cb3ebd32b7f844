// Which profile for which need, from measured rows, with the numbers that decided. The rules are
// explained in docs/measuring.md. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "measure/eval/evaluate.h"
#include "measure/report/strings.h"
#include "measure/statistics.h"

namespace quench {

// What the rules look at. The first row is the reference.
struct CandidateFigures {
  std::string profile;
  int64_t bytes = 0;     // of the weights
  Summary decode_tok_s;  // count 0: unknown
  std::optional<double> kld_mean;
  std::optional<Accuracy> accuracy;  // of a test with right answers
};

struct RecommendRules {
  // Mean KL divergence from the reference, in nats per token, up to which the loss is accepted.
  double kld_budget = 0.1;
  // Balance: the divergence that weighs as much as a doubling of the bytes or of the time.
  double kld_per_doubling = 0.05;
};

// score = log2(bytes of the reference / bytes) + log2(decode speed / that of the reference)
//         - kld_mean / kld_per_doubling
struct BalanceScore {
  std::string profile;
  double score;
  double low;  // with the ends of the speed's interval; infinite with less than five runs
  double high;
};

struct Choice {
  std::string profile;                 // empty: none can be named
  std::vector<std::string> too_close;  // others that the measurement cannot tell from it
  std::vector<Clause> clauses;         // the reason, for reports in any language
  std::string reason;                  // the same in English, one sentence with the numbers
};

struct Recommendation {
  RecommendRules rules;
  Choice storage;
  Choice speed;
  Choice balance;
  std::vector<BalanceScore> balance_scores;
};

// Names nothing when the loss of a row is unknown: it might be the best or the worst.
Recommendation recommend(const std::vector<CandidateFigures>& rows,
                         const RecommendRules& rules = {});

}  // namespace quench
