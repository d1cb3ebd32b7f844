#include "measure/analyze/advise.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace quench {
namespace {

// Notes that `value` is over `limit`, both in the unit of `text`.
void judge(Candidate& c, double value, double limit, std::string text) {
  if (value <= limit) return;
  c.violates.push_back(std::move(text));
  c.excess += std::log(value / limit);
}

void judge_candidate(Candidate& c, const Limits& limits) {
  if (limits.ttft_s) {
    judge(c, c.ttft_s.high, *limits.ttft_s,
          fmt::format("first token after up to {:.2f} s, {:.2f} s allowed", c.ttft_s.high,
                      *limits.ttft_s));
  }
  if (limits.tpot_s) {
    judge(c, c.tpot_s.high, *limits.tpot_s,
          fmt::format("up to {:.1f} ms per token, {:.1f} ms allowed", c.tpot_s.high * 1e3,
                      *limits.tpot_s * 1e3));
  }
  if (limits.memory_bytes) {
    judge(c, c.memory_bytes, *limits.memory_bytes,
          fmt::format("{:.2f} GB, {:.2f} GB allowed", c.memory_bytes / 1e9,
                      *limits.memory_bytes / 1e9));
  }
  if (!limits.per_million) return;
  if (!c.rent_per_million) {
    constexpr double kUnknown = 1e9;  // farther than anything with a price
    judge(c, kUnknown, 1.0, fmt::format("no price in {} is known", limits.per_million->currency));
    return;
  }
  judge(c, c.rent_per_million->high, limits.per_million->amount.high,
        fmt::format("up to {:.3g} {} per million tokens, {:.3g} allowed", c.rent_per_million->high,
                    limits.per_million->currency, limits.per_million->amount.high));
}

std::string name(const Candidate& c) {
  return fmt::format("{}{} on {}{}, batch {}", c.precision,
                     c.devices > 1 ? fmt::format(" over {} devices", c.devices) : "", c.device, "",
                     c.batch);
}

std::string describe(const Candidate& best, const Candidate* runner, const Limits& limits) {
  std::string reason = fmt::format(
      "{}: {:.1f} ms per token (90 %: {:.1f} to {:.1f}), first token after {:.2f} s, {:.0f} tok/s "
      "in all, {:.1f} GB",
      name(best), best.tpot_s.value * 1e3, best.tpot_s.low * 1e3, best.tpot_s.high * 1e3,
      best.ttft_s.value, best.tok_s.value, best.memory_bytes / 1e9);
  if (best.rent_per_million)
    reason += fmt::format(", {:.3g} to {:.3g} {} per million tokens rented",
                          best.rent_per_million->low, best.rent_per_million->high, best.currency);
  if (limits.ttft_s || limits.tpot_s || limits.memory_bytes || limits.per_million)
    reason += "; it holds every limit";
  if (runner != nullptr) {
    reason += fmt::format("; next is {}: {:.2f} times the tokens per second", name(*runner),
                          runner->tok_s.value / best.tok_s.value);
    if (runner->rent_per_million && best.rent_per_million) {
      reason += fmt::format(" at {:.2f} times the cost per token",
                            runner->rent_per_million->middle() / best.rent_per_million->middle());
    } else {
      reason += fmt::format(" and {:.2f} times the time per token",
                            runner->tpot_s.value / best.tpot_s.value);
    }
  }
  return reason +
         ". What fewer bits cost in quality is not predicted: `quench shootout` measures it.";
}

}  // namespace

Advice advise(std::vector<Candidate> candidates, const Limits& limits) {
  for (Candidate& candidate : candidates) judge_candidate(candidate, limits);
  const bool has_costs = std::all_of(candidates.begin(), candidates.end(), [](const Candidate& c) {
    return c.rent_per_million.has_value();
  });
  std::stable_sort(
      candidates.begin(), candidates.end(), [&](const Candidate& a, const Candidate& b) {
        if (a.excess != b.excess) return a.excess < b.excess;
        if ((has_costs || limits.per_million) && a.rent_per_million && b.rent_per_million)
          return a.rent_per_million->middle() < b.rent_per_million->middle();
        // Without costs: with a latency limit the most tokens under it, else the
        // fastest answer.
        if (limits.tpot_s || limits.ttft_s) return a.tok_s.value > b.tok_s.value;
        return a.tpot_s.value < b.tpot_s.value;
      });
  Advice advice;
  std::set<std::pair<std::string, std::string>> seen;
  for (Candidate& candidate : candidates) {
    if (!seen.insert({candidate.device, candidate.precision}).second) continue;
    if (!candidate.violates.empty()) {
      advice.rejected.push_back(std::move(candidate));
    } else if (!advice.best) {
      advice.best = std::move(candidate);
    } else {
      advice.others.push_back(std::move(candidate));
    }
  }
  if (advice.best) {
    advice.reason =
        describe(*advice.best, advice.others.empty() ? nullptr : &advice.others.front(), limits);
  } else if (advice.rejected.empty()) {
    advice.reason = "Nothing fits: no precision leaves room for one sequence.";
  } else {
    const Candidate& nearest = advice.rejected.front();
    advice.reason = fmt::format("Nothing holds every limit. Nearest is {}: {}.", name(nearest),
                                fmt::join(nearest.violates, "; "));
  }
  return advice;
}

Json candidate_json(const Candidate& c) {
  return {{"device", c.device},
          {"devices", c.devices},
          {"precision", c.precision},
          {"batch", c.batch},
          {"memory_bytes", c.memory_bytes},
          {"ttft_s", interval_json(c.ttft_s)},
          {"tpot_s", interval_json(c.tpot_s)},
          {"tok_s", interval_json(c.tok_s)},
          {"currency", c.currency.empty() ? Json() : Json(c.currency)},
          {"rent_per_million_tokens", c.rent_per_million ? Json{{"low", c.rent_per_million->low},
                                                                {"high", c.rent_per_million->high}}
                                                         : Json()},
          {"violates", c.violates}};
}

Json advice_json(const Advice& advice) {
  Json others = Json::array(), rejected = Json::array();
  for (const Candidate& c : advice.others) others.push_back(candidate_json(c));
  for (const Candidate& c : advice.rejected) rejected.push_back(candidate_json(c));
  return {{"best", advice.best ? candidate_json(*advice.best) : Json()},
          {"reason", advice.reason},
          {"others", others},
          {"rejected", rejected}};
}

}  // namespace quench
