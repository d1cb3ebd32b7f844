#include "measure/analyze/advise.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace quench {
namespace {

// The values of a sentence about a limit.
std::map<std::string, std::string> both(double value, double limit, int decimals) {
  return {{"value", fixed(value, decimals)}, {"limit", fixed(limit, decimals)}};
}

// Notes that `value` is over `limit`, both in the unit of `text`.
void judge(Candidate& c, double value, double limit, Sentence text) {
  if (value <= limit) return;
  c.violates.push_back(std::move(text));
  c.excess += std::log(value / limit);
}

void judge_candidate(Candidate& c, const Limits& limits) {
  if (limits.ttft_s) {
    judge(c, c.ttft_s.high, *limits.ttft_s,
          {"plan.limit.ttft", both(c.ttft_s.high, *limits.ttft_s, 2)});
  }
  if (limits.tpot_s) {
    judge(c, c.tpot_s.high, *limits.tpot_s,
          {"plan.limit.tpot", both(c.tpot_s.high * 1e3, *limits.tpot_s * 1e3, 1)});
  }
  if (limits.memory_bytes) {
    judge(c, c.memory_bytes, *limits.memory_bytes,
          {"plan.limit.memory", both(c.memory_bytes / 1e9, *limits.memory_bytes / 1e9, 2)});
  }
  if (!limits.per_million) return;
  const std::string& currency = limits.per_million->currency;
  if (!c.rent_per_million) {
    constexpr double kUnknown = 1e9;  // farther than anything with a price
    judge(c, kUnknown, 1.0, {"plan.limit.no_price", {{"currency", currency}}});
    return;
  }
  judge(c, c.rent_per_million->high, limits.per_million->amount.high,
        {"plan.limit.cost",
         {{"value", fmt::format("{:.3g}", c.rent_per_million->high)},
          {"limit", fmt::format("{:.3g}", limits.per_million->amount.high)},
          {"currency", currency}}});
}

Sentence name(const Candidate& c) {
  return {c.devices > 1 ? "plan.advice.name_devices" : "plan.advice.name",
          {{"precision", c.precision},
           {"devices", std::to_string(c.devices)},
           {"batch", std::to_string(c.batch)}},
          {{"device", device_sentence(c.device)}}};
}

Sentence describe(const Candidate& best) {
  Sentence text = {"plan.advice.best",
                   {{"tpot", fixed(best.tpot_s.value * 1e3, 1)},
                    {"tpot_low", fixed(best.tpot_s.low * 1e3, 1)},
                    {"tpot_high", fixed(best.tpot_s.high * 1e3, 1)},
                    {"ttft", fixed(best.ttft_s.value, 2)},
                    {"tok_s", fixed(best.tok_s.value, 0)},
                    {"memory", fixed(best.memory_bytes / 1e9, 1)}},
                   {{"name", name(best)}}};
  if (best.rent_per_million) {
    text.key = "plan.advice.best_rent";
    text.values["rent_low"] = fmt::format("{:.3g}", best.rent_per_million->low);
    text.values["rent_high"] = fmt::format("{:.3g}", best.rent_per_million->high);
    text.values["currency"] = best.currency;
  }
  return text;
}

Sentence describe_next(const Candidate& next, const Candidate& best) {
  auto times = [](double a, double b) { return fmt::format("{:.2f}", a / b); };
  Sentence text = {"plan.advice.next_time",
                   {{"times", times(next.tok_s.value, best.tok_s.value)},
                    {"tpot_times", times(next.tpot_s.value, best.tpot_s.value)}},
                   {{"name", name(next)}}};
  if (next.rent_per_million && best.rent_per_million) {
    text.key = "plan.advice.next_cost";
    text.values["cost_times"] =
        times(next.rent_per_million->middle(), best.rent_per_million->middle());
  }
  return text;
}

// "first; second"
std::string clauses(const std::vector<Sentence>& sentences, const Strings& strings) {
  std::string text;
  for (const Sentence& sentence : sentences)
    text += (text.empty() ? "" : strings("clause_separator")) + strings(sentence);
  return text;
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
  advice.limits = limits;
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
  return advice;
}

std::string advice_reason(const Advice& advice, const Strings& strings) {
  if (advice.best) {
    const Limits& limits = advice.limits;
    std::vector<Sentence> parts = {describe(*advice.best)};
    if (limits.ttft_s || limits.tpot_s || limits.memory_bytes || limits.per_million)
      parts.push_back({"plan.advice.holds"});
    if (!advice.others.empty()) parts.push_back(describe_next(advice.others.front(), *advice.best));
    return clauses(parts, strings) + strings("sentence_end") + strings("sentence_space") +
           strings("plan.advice.quality");
  }
  if (advice.rejected.empty()) return strings("plan.advice.nothing_fits");
  const Candidate& nearest = advice.rejected.front();
  return strings("plan.advice.nothing_holds",
                 {{"name", strings(name(nearest))}, {"why", clauses(nearest.violates, strings)}});
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
          {"violates", english(c.violates)}};
}

Json advice_json(const Advice& advice) {
  Json others = Json::array(), rejected = Json::array();
  for (const Candidate& c : advice.others) others.push_back(candidate_json(c));
  for (const Candidate& c : advice.rejected) rejected.push_back(candidate_json(c));
  return {{"best", advice.best ? candidate_json(*advice.best) : Json()},
          {"reason", advice_reason(advice, Strings::of("en"))},
          {"others", others},
          {"rejected", rejected}};
}

}  // namespace quench
