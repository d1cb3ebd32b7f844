// Load: several requests at once on one target, either so many in flight all the time (closed loop)
// or arriving at random at a given rate (open loop), and what comes of them: throughput, latencies,
// the share that meets a service level objective. One thread.
#pragma once

#include "measure/protocol.h"

namespace quench {

// What a user is promised. Null: nothing.
struct Slo {
  std::optional<double> ttft_s;
  std::optional<double> tpot_s;

  bool empty() const { return !ttft_s && !tpot_s; }
  // Of the response as the user sees it, waiting before it was sent included. A failed run and a
  // run without a token do not meet it; tpot_s of a single token is met.
  bool met_by(const BenchRun& run) const;
};

// One of the two is set.
struct LoadShape {
  std::optional<int64_t> concurrency;
  std::optional<double> rate_s;  // requests per second; gaps are exponential (a Poisson process)
  int64_t requests = 0;
};

struct LoadLevel {
  LoadShape shape;
  std::vector<BenchRun> runs;  // in the order of their end
  double start_s = 0.0;        // of the first request, on the steady clock
  double duration_s = 0.0;     // until the end of the last
};

// Requests of all tasks in turn, with seeds from options.first_seed on. Arrivals of a rate follow
// from that seed too. A failed request is a run with an error and the level goes on, until more
// than options.max_failures have failed in a row. `level` holds what is done when an error comes
// back.
Result<void> run_load(BenchTarget& target, const Protocol& protocol, const ProtocolOptions& options,
                      const LoadShape& shape, LoadLevel& level,
                      const std::function<void(int64_t ended, int64_t in_flight)>& progress = {});

// From when a run should have been sent: under a rate a late request has waited, and a measurement
// that forgets this hides the queue (coordinated omission). Equal to ttft_s and e2e_s otherwise.
double response_ttft_s(const BenchRun& run);
double response_e2e_s(const BenchRun& run);

struct LoadSummary {
  int64_t failed = 0;
  double requests_s = 0.0;    // that were answered, over the whole duration
  double output_tok_s = 0.0;  // their tokens, over the whole duration
  // Tokens per second while the level was full: from the last of the first `concurrency` requests
  // to the sending of the last one. Null where that is no time, and under a rate.
  std::optional<double> full_output_tok_s;
  std::optional<double> good_share;  // of all requests, failed ones included; null: no SLO
  std::optional<double> goodput_requests_s;
  double mean_in_flight = 0.0;              // by Little's law: sum of e2e_s over the duration
  Summary ttft_s, tpot_s, e2e_s;            // service: from sending
  Summary response_ttft_s, response_e2e_s;  // from when it should have been sent
};
LoadSummary summarize_load(const LoadLevel& level, const Slo& slo);

// The nearest-rank percentile where n values can bound it: with fewer than ln(0.05) / ln(p) (29 for
// the 90th, 299 for the 99th) not even the largest is above it with 95 %, and it is null.
std::optional<double> bounded_percentile(std::span<const double> values, double percent);

}  // namespace quench
