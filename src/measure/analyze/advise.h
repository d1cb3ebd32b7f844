// Advise: which precision, batch and device for a budget, a latency or a memory limit, and why,
// each clause with its number. Pure functions over deployments; any thread.
#pragma once

#include "measure/analyze/cost_plan.h"

namespace quench {

struct Limits {
  std::optional<double> ttft_s, tpot_s, memory_bytes;
  std::optional<Money> per_million;  // rented
};

struct Candidate {
  std::string device;
  int64_t devices = 1;
  std::string precision;
  int64_t batch = 1;
  double memory_bytes = 0.0;
  Interval ttft_s, tpot_s, tok_s;
  std::optional<Between> rent_per_million;
  std::string currency;            // of that
  std::vector<Sentence> violates;  // limits that it misses, with both numbers
  double excess = 0.0;             // by how many times in all, as a logarithm
};

struct Advice {
  Limits limits;
  std::optional<Candidate> best;
  std::vector<Candidate> others;  // the best of each other device and precision, best first
  std::vector<Candidate> rejected;
};

// Candidates that hold every limit come first: the cheapest where costs are known and limited or
// the devices differ in price, else the fastest answer, then the most tokens. Latencies and costs
// are judged by the upper end of their interval. Where nothing holds them all, what misses them by
// the least is named.
Advice advise(std::vector<Candidate> candidates, const Limits& limits);

// Why that one and not the next, or what misses the limits by the least.
std::string advice_reason(const Advice& advice, const Strings& strings);

Json candidate_json(const Candidate& candidate);
Json advice_json(const Advice& advice);

}  // namespace quench
