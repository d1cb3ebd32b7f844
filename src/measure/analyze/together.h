// Together: what two models on one device lose against running alone, why, and what keeping them
// apart would give. Each runs in a process of its own, as neighbours do; alone, together, and
// together with half the threads pinned to half the cores, in turns. Every loss is predicted from
// the measured ceilings before it is measured. Starts and stops two or four processes; call it
// while this process has no other threads. One thread.
#pragma once

#include <atomic>

#include "base/clock.h"
#include "measure/analyze/model_process.h"

namespace quench {

struct TogetherOptions {
  SessionOptions a, b;
  LiveLimits lengths;
  double budget_s = 45.0;  // after the models are loaded; the round that is under way is finished
  double period_s = 0.5;   // of each measurement
  int64_t rounds = 6;      // 6 are the fewest with a 95 % interval of the median
  uint64_t seed = 0;       // of the token ids
  std::function<double()> clock = now_s;  // of the budget, in seconds
  const std::atomic<bool>* stop = nullptr;
  std::function<void(const std::string& stage, int64_t done, int64_t total)> progress;
  // Called with every prediction before anything is measured, and with each outcome after it.
  std::function<void(const std::string& text)> say;
  std::string lang = "en";  // of what is said
};

// One way of running both; medians over the rounds.
struct TogetherSpeeds {
  double decode_tok_s = 0.0;  // together: while the other decodes
  double ttft_s = 0.0;        // of a prompt and its logits; together: while the other decodes
};

struct TogetherModel {
  ModelFacts facts;
  TogetherSpeeds alone, together;
  std::optional<TogetherSpeeds> isolated;  // null: not tried
  Sentence why;                            // of the loss, in one sentence with its arithmetic
};

struct TogetherReport {
  TogetherModel models[2];
  int cpus = 0;
  int64_t prompt_tokens = 0, depth = 0;
  double others_cpus = 0.0;  // that other processes kept busy before it began
  std::vector<Experiment> experiments;
  Sentence isolation;  // what it would give, or why it was not tried
  double measure_s = 0.0;
};

// One of two that run side by side, as it is alone.
struct Tenant {
  int threads = 1;
  PassTime time;
  PassLimit limit;

  double read_gb_s() const;
};
// How fast `tenant` is beside `other`, as a ratio to running alone. All threads share the CPUs,
// some of which others keep busy already; both share what memory gives, and what the caches hold.
Forecast forecast_together(const Tenant& tenant, const Tenant& other, int cpus, double others_cpus,
                           const Ceilings& ceilings);
// The same with `half_threads` each, on cores of their own; `half_limit` by ceilings measured
// there.
Forecast forecast_isolated(const Tenant& tenant, const PassLimit& half_limit, const Tenant& other,
                           int half_threads, const Ceilings& ceilings);

Result<TogetherReport> explain_together(const TogetherOptions& options);

Json together_json(const TogetherReport& report);
std::string together_text(const TogetherReport& report, const Strings& strings);

}  // namespace quench
