// Which format a recipe gets on this machine, by measurement. A recipe may name candidates:
//   "choose": {"by": "speed" | "knee", "among": [FORMAT, ...]}
// and its default format is then only what is taken where nothing can be measured. By speed: the
// format that answers a short request the quickest. By knee: the one where the curve of loss over
// cost bends the most. Plain values; one thread drives the measuring.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "measure/eval/evaluate.h"

namespace quench {

struct ChoiceRule {
  enum class By { kSpeed, kKnee };
  By by = By::kSpeed;
  std::vector<std::string> formats;  // at least two
};
// Of a recipe's JSON; null: it names no candidates.
Result<std::optional<ChoiceRule>> parse_choice_rule(const Json& recipe, const std::string& where);
// Of the recipe that the session names by its path.
Result<std::optional<ChoiceRule>> choice_rule_of(const SessionOptions& session);

// What was measured of one candidate.
struct MeasuredFormat {
  std::string format;
  int64_t bytes = 0;                  // of the model's weights in memory
  std::vector<double> request_s;      // of one request each
  std::optional<double> rounded_kld;  // mean, only rounded to nearest; null: not asked for
  // Of the model as the recipe's algorithm makes it; null: it was not made.
  std::optional<ClusteredMean> kld = std::nullopt;
};

// The candidates' indices, the preferred first.
// By speed: the least median time; of those whose interval reaches that of the quickest, the one
// with the fewest bytes, because the measurement cannot tell them apart.
std::vector<size_t> order_by_speed(const std::vector<MeasuredFormat>& formats);
// By knee: the greatest distance below the line between the ends of the curve (Satopaa et al. 2011,
// "Finding a Kneedle in a Haystack"), of the loss over log(bytes) + log(median time), both axes
// from 0 to 1.
std::vector<size_t> order_by_knee(const std::vector<MeasuredFormat>& formats);

struct FormatChoice {
  ChoiceRule rule;
  double kld_budget = 0.0;              // 0: any loss is accepted
  std::vector<MeasuredFormat> formats;  // in the rule's order
  std::vector<size_t> order;            // the preferred first
  std::string chosen;                   // empty: not yet
  bool is_in_budget = false;            // false: no candidate was; `chosen` has the most bytes

  // The first of `order`, or, after candidate `last` was over the budget, the first with more
  // bytes; null when there is none.
  std::optional<size_t> next(std::optional<size_t> last) const;
};

struct ChoiceOptions {
  std::string text_path;         // held out from calibration; empty: the shipped texts/eval
  int64_t domain_tokens = 512;   // of each domain, about
  int64_t min_repetitions = 5;   // of the request
  int64_t max_repetitions = 15;  // within kMeasureS per candidate
  const std::atomic<bool>* stop = nullptr;
  std::function<void(const std::string& stage, int64_t done, int64_t total)> progress;
};
constexpr int64_t kRequestTokens = 64;  // of the prompt, and as many of the answer
constexpr double kMeasureS = 8.0;

// Measures every candidate as it is after rounding to nearest, which has the speed and the bytes of
// what any algorithm makes; `model` is as stored. All are open at once where memory allows it and
// take turns.
Result<FormatChoice> measure_formats(const SessionOptions& model, const Recipe& recipe,
                                     const ChoiceRule& rule, const ChoiceOptions& options);

// The mean KL divergence of `candidate` from `model`, both opened for it.
Result<ClusteredMean> measure_kld(const SessionOptions& model, const SessionOptions& candidate,
                                  const ChoiceOptions& options);

// {"by", "kld_budget", "chosen", "in_budget", "request_tokens", "order", "candidates": [{"format",
// "bytes", "request_s", "request_runs_s", "rounded_kld", "kld_mean", "kld_ci95"}]}
Json choice_json(const FormatChoice& choice);
// The measurements of an interrupted job, back from that; null: they are of other candidates, or
// not whole.
std::optional<FormatChoice> kept_measurements(const Json& choice, const Recipe& recipe,
                                              const ChoiceRule& rule);
// A table with a line per candidate, and what was chosen.
std::string choice_text(const Json& choice);

}  // namespace quench
