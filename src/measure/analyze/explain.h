// Explain a number that somebody already has, without a machine: the nearest published row, the
// predicted range, how far off the claim is, and the causes whose arithmetic fits, best first. Two
// claims are also compared with each other: the ratio to be expected, and the ratio observed. Pure
// functions of a Predictor; any thread.
#pragma once

#include "measure/analyze/hypotheses.h"

namespace quench {

enum class Verdict { kAsExpected, kSlower, kFaster, kImpossible, kLess, kMore, kDoesNotFit };
const char* verdict_name(Verdict verdict);

struct Explanation {
  Claim claim;
  Prediction sound;  // what the device can do with a sound program
  Prediction seen;   // what one will see, the engine's known pathologies included
  Verdict verdict = Verdict::kAsExpected;
  double factor = 1.0;      // claimed over expected time, or memory
  double limit_s = 0.0;     // no program is faster: bytes and operations at the data sheet's peaks
  bool is_flagged = false;  // a listed anomaly is the likely cause
  const Predictor::Row* nearest = nullptr;
  std::vector<Hypothesis> hypotheses;
};

// What lies between two claims on equal terms.
struct PairExplanation {
  double observed_ratio = 0.0;
  double predicted_ratio = 0.0;
  std::optional<double> published_ratio;  // of rows that are alike except for the model
  Sentence published_from;
  double weights_ratio = 0.0;  // bytes read per token
  double layers_ratio = 0.0;
  double square_ratio = 0.0;  // of the parameters, squared: what people fear
  // When no lengths were given: the length that the faster claim implies, taken for both.
  std::optional<double> implied_tokens;
};

// "A800 has 19.5 FP16 TFLOPS": what the device's sheet says, and what the number is instead.
struct PeakCheck {
  double claimed_tflops = 0.0;
  double dense_tflops = 0.0;
  bool is_right = false;
  Sentence meaning;
};

struct ExplainReport {
  std::vector<Explanation> claims;
  std::optional<PairExplanation> pair;  // of exactly two
  std::optional<PeakCheck> peak;
};

Result<ExplainReport> explain_claims(const Predictor& predictor, std::vector<Claim> claims);
PeakCheck check_peak(const Hardware& device, double claimed_tflops);

Json explain_json(const ExplainReport& report);
std::string explain_text(const ExplainReport& report, const Strings& strings);

}  // namespace quench
