#include "measure/recommend.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace quench {
namespace {

using Row = CandidateFigures;

double saved_percent(const Row& row, const Row& reference) {
  return 100.0 * (1.0 - static_cast<double>(row.bytes) / static_cast<double>(reference.bytes));
}

std::string speed_text(const Summary& speed) {
  return fmt::format("{:.1f} tok/s ({:.1f} to {:.1f})", speed.median, speed.interval.low,
                     speed.interval.high);
}

std::string loss_text(const Row& row) {
  return fmt::format("loses {:.4f} nats per token", *row.kld_mean);
}

// Fewer runs than these bound the median too loosely to tell anything from it (five reach 93.75 %).
constexpr int64_t kMinRuns = 5;

// Whether the measurement tells two speeds apart: enough runs, and intervals that do not meet.
bool can_tell(const Summary& a, const Summary& b) {
  return a.count >= kMinRuns && b.count >= kMinRuns &&
         (a.interval.low > b.interval.high || b.interval.low > a.interval.high);
}

Choice choose_storage(const Row& reference, const std::vector<const Row*>& affordable,
                      const RecommendRules& rules) {
  const Row* best = &reference;
  for (const Row* row : affordable) {
    if (row->bytes < best->bytes) best = row;
  }
  if (best == &reference) {
    return {reference.profile,
            {},
            fmt::format("no smaller profile stays within the loss budget of {} nats per token.",
                        rules.kld_budget)};
  }
  return {best->profile,
          {},
          fmt::format("smallest within the loss budget of {} nats per token: {:.1f} MB, {:.1f} % "
                      "saved, {}.",
                      rules.kld_budget, static_cast<double>(best->bytes) / 1e6,
                      saved_percent(*best, reference), loss_text(*best))};
}

const Row* fastest(const std::vector<const Row*>& rows, const Row* except = nullptr) {
  const Row* best = nullptr;
  for (const Row* row : rows) {
    if (row == except || row->decode_tok_s.count == 0) continue;
    if (best == nullptr || row->decode_tok_s.median > best->decode_tok_s.median) best = row;
  }
  return best;
}

Choice choose_speed(const std::vector<const Row*>& affordable, const std::vector<const Row*>& all) {
  const Row* best = fastest(affordable);
  if (best == nullptr) return {"", {}, "no decode speed was measured."};
  Choice choice;
  choice.profile = best->profile;
  for (const Row* row : affordable) {
    if (row != best && row->decode_tok_s.count > 0 &&
        !can_tell(row->decode_tok_s, best->decode_tok_s))
      choice.too_close.push_back(row->profile);
  }
  const std::string speed = speed_text(best->decode_tok_s);
  if (!choice.too_close.empty()) {
    choice.reason = fmt::format("fastest median, {}, but the runs cannot tell it from {}", speed,
                                fmt::join(choice.too_close, ", "));
  } else if (const Row* next = fastest(affordable, best); next != nullptr) {
    choice.reason = fmt::format("fastest beyond the noise, {}; next is {} with {}", speed,
                                next->profile, speed_text(next->decode_tok_s));
  } else {
    choice.reason = fmt::format("the only one within the loss budget, {}", speed);
  }
  if (const Row* first = fastest(all);
      first != nullptr && first->decode_tok_s.median > best->decode_tok_s.median) {
    choice.reason += fmt::format("; {} is faster with {:.1f} tok/s, but over the loss budget",
                                 first->profile, first->decode_tok_s.median);
  }
  choice.reason += '.';
  return choice;
}

// Null when a figure is missing.
std::optional<BalanceScore> balance_score(const Row& row, const Row& reference,
                                          const RecommendRules& rules) {
  const Summary& speed = row.decode_tok_s;
  if (!row.kld_mean || speed.count == 0 || reference.decode_tok_s.count == 0) return std::nullopt;
  const double rest =
      std::log2(static_cast<double>(reference.bytes) / static_cast<double>(row.bytes)) -
      *row.kld_mean / rules.kld_per_doubling - std::log2(reference.decode_tok_s.median);
  constexpr double kAnything = std::numeric_limits<double>::infinity();
  return BalanceScore{row.profile, rest + std::log2(speed.median),
                      speed.count >= kMinRuns ? rest + std::log2(speed.interval.low) : -kAnything,
                      speed.count >= kMinRuns ? rest + std::log2(speed.interval.high) : kAnything};
}

Choice choose_balance(const std::vector<BalanceScore>& scores) {
  if (scores.empty()) return {"", {}, "no decode speed was measured."};
  const auto best = std::max_element(
      scores.begin(), scores.end(), [](const auto& a, const auto& b) { return a.score < b.score; });
  Choice choice;
  choice.profile = best->profile;
  std::vector<std::string> all;
  for (const BalanceScore& score : scores) {
    all.push_back(fmt::format("{} {:+.2f}", score.profile, score.score));
    if (&score != &*best && score.high >= best->low) choice.too_close.push_back(score.profile);
  }
  choice.reason = fmt::format(
      "best sum of halvings of bytes and time less loss: {}{}.", fmt::join(all, ", "),
      choice.too_close.empty()
          ? std::string()
          : fmt::format("; the runs cannot tell it from {}", fmt::join(choice.too_close, ", ")));
  return choice;
}

}  // namespace

Recommendation recommend(const std::vector<CandidateFigures>& rows, const RecommendRules& rules) {
  QUENCH_CHECK(!rows.empty(), "a recommendation without a reference");
  const Row& reference = rows.front();
  Recommendation result;
  result.rules = rules;
  std::vector<const Row*> affordable;
  std::vector<const Row*> all;
  std::vector<std::string> unmeasured;
  for (const Row& row : rows) {
    all.push_back(&row);
    if (!row.kld_mean) unmeasured.push_back(row.profile);
    const bool in_budget = row.kld_mean && *row.kld_mean <= rules.kld_budget;
    if (&row == &reference || in_budget) affordable.push_back(&row);
    if (const auto score = balance_score(row, reference, rules))
      result.balance_scores.push_back(*score);
  }
  if (!unmeasured.empty()) {
    const Choice none = {
        "", {}, fmt::format("the loss of {} was not measured.", fmt::join(unmeasured, ", "))};
    result.storage = result.speed = result.balance = none;
    return result;
  }
  result.storage = choose_storage(reference, affordable, rules);
  result.speed = choose_speed(affordable, all);
  result.balance = choose_balance(result.balance_scores);
  return result;
}

}  // namespace quench
