#include "measure/recommend.h"

#include <fmt/format.h>

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

std::string tok_s(double speed) { return fmt::format("{:.1f}", speed); }
std::string megabytes(const Row& row) {
  return fmt::format("{:.2f}", static_cast<double>(row.bytes) / 1e6);
}
std::string nats(const Row& row) { return fmt::format("{:.4f}", *row.kld_mean); }
std::string budget(const RecommendRules& rules) { return fmt::format("{}", rules.kld_budget); }

// Speed with its interval, under names that begin with `prefix`.
void add_speed(Json& values, const Summary& speed, const std::string& prefix = "") {
  values[prefix + "speed"] = tok_s(speed.median);
  values[prefix + "low"] = tok_s(speed.interval.low);
  values[prefix + "high"] = tok_s(speed.interval.high);
}

Choice choice(const std::string& profile, std::vector<Clause> clauses,
              std::vector<std::string> too_close = {}) {
  const auto reason = clauses_text(Strings::of("en"), clauses_json(clauses));
  QUENCH_CHECK(reason, "a reason for {} without its text", profile);
  return {profile, std::move(too_close), std::move(clauses), *reason};
}

// Fewer runs than these bound the median too loosely to tell anything from it (five reach 93.75 %).
constexpr int64_t kMinRuns = 5;

// Whether the measurement tells two speeds apart: enough runs, and intervals that do not meet.
bool can_tell(const Summary& a, const Summary& b) {
  return a.count >= kMinRuns && b.count >= kMinRuns &&
         (a.interval.low > b.interval.high || b.interval.low > a.interval.high);
}

std::string times(double ratio) { return fmt::format("{:.2f}", ratio); }

// What the choice is next to the model as it was: what it saves, and what is given up for it.
void add_trade(const Row& row, const Row& reference, std::vector<Clause>& clauses) {
  if (&row == &reference || row.decode_tok_s.count == 0 || reference.decode_tok_s.count == 0)
    return;
  Clause trade = {"trade",
                  {{"saved_percent", fmt::format("{:.1f}", saved_percent(row, reference))},
                   {"times", times(row.decode_tok_s.median / reference.decode_tok_s.median)},
                   {"kld", nats(row)}}};
  if (row.accuracy && reference.accuracy) {
    trade.key = "trade_accuracy";
    trade.values["accuracy"] = fmt::format("{:.1f}", row.accuracy->percent());
    trade.values["reference_accuracy"] = fmt::format("{:.1f}", reference.accuracy->percent());
    trade.values["error"] = fmt::format("{:.1f}", row.accuracy->standard_error());
    trade.values["questions"] = std::to_string(row.accuracy->n);
  }
  clauses.push_back(std::move(trade));
}

// What the other one would give for what it takes.
void add_instead(const Row& row, const Row* other, std::vector<Clause>& clauses) {
  if (other == nullptr || other == &row || row.decode_tok_s.count == 0 ||
      other->decode_tok_s.count == 0)
    return;
  clauses.push_back(
      {"instead",
       {{"profile", other->profile},
        {"bytes_times", times(static_cast<double>(other->bytes) / static_cast<double>(row.bytes))},
        {"speed_times", times(other->decode_tok_s.median / row.decode_tok_s.median)},
        {"kld", nats(*other)}}});
}

const Row* fastest(const std::vector<const Row*>& rows, const Row* except = nullptr);
const Row* smallest_of(const std::vector<const Row*>& rows) {
  return *std::min_element(rows.begin(), rows.end(),
                           [](const Row* a, const Row* b) { return a->bytes < b->bytes; });
}

Choice choose_storage(const Row& reference, const std::vector<const Row*>& affordable,
                      const std::vector<const Row*>& all, const RecommendRules& rules) {
  const Row* best = smallest_of(affordable);
  std::vector<Clause> clauses;
  if (best->bytes >= reference.bytes) {
    best = &reference;
    clauses.push_back({"none_smaller", {{"kld_budget", budget(rules)}}});
  } else {
    clauses.push_back({"smallest",
                       {{"kld_budget", budget(rules)},
                        {"size_mb", megabytes(*best)},
                        {"saved_percent", fmt::format("{:.1f}", saved_percent(*best, reference))},
                        {"kld", nats(*best)}}});
    add_trade(*best, reference, clauses);
  }
  add_instead(*best, fastest(affordable), clauses);
  const Row* smallest = smallest_of(all);
  if (smallest->bytes < best->bytes) {
    clauses.push_back({"smaller_over_budget",
                       {{"profile", smallest->profile},
                        {"size_mb", megabytes(*smallest)},
                        {"kld", nats(*smallest)}}});
  }
  return choice(best->profile, std::move(clauses));
}

const Row* fastest(const std::vector<const Row*>& rows, const Row* except) {
  const Row* best = nullptr;
  for (const Row* row : rows) {
    if (row == except || row->decode_tok_s.count == 0) continue;
    if (best == nullptr || row->decode_tok_s.median > best->decode_tok_s.median) best = row;
  }
  return best;
}

Choice choose_speed(const Row& reference, const std::vector<const Row*>& affordable,
                    const std::vector<const Row*>& all) {
  const Row* best = fastest(affordable);
  if (best == nullptr) return choice("", {{"no_speed", Json::object()}});
  std::vector<std::string> too_close;
  for (const Row* row : affordable) {
    if (row != best && row->decode_tok_s.count > 0 &&
        !can_tell(row->decode_tok_s, best->decode_tok_s))
      too_close.push_back(row->profile);
  }
  Clause why{"only", Json::object()};
  add_speed(why.values, best->decode_tok_s);
  if (!too_close.empty()) {
    why.key = "fastest_too_close";
    why.values["profiles"] = too_close;
  } else if (const Row* next = fastest(affordable, best); next != nullptr) {
    why.key = "fastest";
    why.values["profile"] = next->profile;
    add_speed(why.values, next->decode_tok_s, "next_");
  }
  std::vector<Clause> clauses = {std::move(why)};
  add_trade(*best, reference, clauses);
  add_instead(*best, smallest_of(affordable), clauses);
  if (const Row* first = fastest(all);
      first != nullptr && first->decode_tok_s.median > best->decode_tok_s.median) {
    clauses.push_back(
        {"faster_over_budget",
         {{"profile", first->profile}, {"speed", tok_s(first->decode_tok_s.median)}}});
  }
  return choice(best->profile, std::move(clauses), std::move(too_close));
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

Choice choose_balance(const Row& reference, const std::vector<const Row*>& all,
                      const std::vector<BalanceScore>& scores) {
  if (scores.empty()) return choice("", {{"no_speed", Json::object()}});
  const auto best = std::max_element(
      scores.begin(), scores.end(), [](const auto& a, const auto& b) { return a.score < b.score; });
  std::vector<std::string> too_close;
  Json shown = Json::array();
  for (const BalanceScore& score : scores) {
    shown.push_back(Json::array({score.profile, fmt::format("{:+.2f}", score.score)}));
    if (&score != &*best && score.high >= best->low) too_close.push_back(score.profile);
  }
  std::vector<Clause> clauses = {{"balance", {{"scores", shown}}}};
  for (const Row* row : all) {
    if (row->profile == best->profile) add_trade(*row, reference, clauses);
  }
  if (!too_close.empty()) clauses.push_back({"balance_too_close", {{"profiles", too_close}}});
  return choice(best->profile, std::move(clauses), std::move(too_close));
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
    const Choice none = choice("", {{"no_loss", {{"profiles", unmeasured}}}});
    result.storage = result.speed = result.balance = none;
    return result;
  }
  result.storage = choose_storage(reference, affordable, all, rules);
  result.speed = choose_speed(reference, affordable, all);
  result.balance = choose_balance(reference, all, result.balance_scores);
  return result;
}

}  // namespace quench
