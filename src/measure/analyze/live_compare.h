// Comparing two models here: prefill and decode of both in interleaved pairs, in this process, and
// the comparison that follows. Both are in memory while it runs. Drives both devices; one thread.
#pragma once

#include <atomic>
#include <functional>

#include "base/clock.h"
#include "measure/analyze/compare.h"
#include "measure/analyze/live_model.h"

namespace quench {

struct LiveCompareOptions {
  SessionOptions a, b;
  LiveLimits lengths;
  int64_t pairs = 12;      // of decode and of prefill, each
  double find = 0.0;       // then as many as a difference of this share needs; 0: no more
  double budget_s = 60.0;  // after the models are loaded; the pair that is under way is finished
  double run_s = 0.15;     // of one decode run: many times a scheduler's slice
  double alpha = 0.01;     // chance of calling a difference that is none, of the whole table
  uint64_t seed = 0;       // of the token ids
  std::function<double()> clock = now_s;  // of the budget, in seconds
  const std::atomic<bool>* stop = nullptr;
  std::function<void(const std::string& stage, int64_t done, int64_t total)> progress;
};

Result<Comparison> compare_live(const LiveCompareOptions& options);

}  // namespace quench
