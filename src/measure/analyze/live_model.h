// LiveModel: a loaded model that is measured again and again, in turns with others. Owns its
// session and caches. One thread drives it.
#pragma once

#include <memory>

#include "measure/analyze/limiter.h"
#include "measure/grid_runner.h"

namespace quench {

// What one run does; decode takes `tokens` of each sequence.
struct LiveLimits {
  int64_t prompt_tokens = 256;
  int64_t depth = 256;
  int64_t batch = 1;  // the most at once
};

class LiveModel {
 public:
  // Decoded tokens of one run at most; fewer where they would take long.
  static constexpr int64_t kMostTokens = 64;

  static Result<std::unique_ptr<LiveModel>> open(SessionOptions options, const LiveLimits& limits,
                                                 uint64_t seed, const LoadProgress& progress = {});

  const Session& session() const { return *session_; }
  GridRunner& runner() { return *runner_; }
  const GridRunner& runner() const { return *runner_; }
  // Tokens per second of all sequences together.
  double tok_s(const GridRow& row);
  Arm arm(const GridRow& row);
  // Of one prompt, or of one decoded token of each sequence.
  PassLimit pass_limit(const GridRow& row, const Ceilings& ceilings) const;
  // Where the time of such a pass goes: of the least disturbed of some traced runs.
  PassTime traced(const GridRow& row);
  double generic_share(std::string* kernel) const;
  // "int8: avx512_int8", one for each pair of format and kernel.
  std::vector<std::string> kernels() const;

 private:
  LiveModel() = default;

  std::unique_ptr<Session> session_;
  std::unique_ptr<GridRunner> runner_;
};

// A prompt, and a decode run of about `run_s`, both warmed up on this subject.
struct LiveRows {
  GridRow prefill;
  GridRow decode;
};
LiveRows warm_up(LiveModel& subject, const LiveLimits& limits, int64_t batch, double run_s);

}  // namespace quench
