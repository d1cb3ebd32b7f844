// BenchRun: one request and what came of it, with its times; InFlight: the requests that are under
// way on a target. One thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "measure/target.h"

namespace quench {

// One answer. Times are on the caller's clock, from the call of submit(), unless they say
// otherwise.
struct BenchRun {
  std::string task;
  bool warmup = false;
  uint64_t seed = 0;
  std::optional<int64_t> prompt_tokens;
  int64_t generated_tokens = 0;            // as counted here, or by the target where it saw more
  std::optional<int64_t> reported_tokens;  // by the target's own count; null: it told none
  FinishReason finish_reason = FinishReason::kStop;
  std::string error;                   // not empty: the request failed, and counts in no statistics
  double start_s = 0.0;                // of submit(), on the steady clock
  std::optional<double> intended_s;    // when it should have been sent (steady clock), under a rate
  double ttft_s = 0.0;                 // token_s[0]; 0 without tokens
  double e2e_s = 0.0;                  // until the last event
  std::vector<double> token_s;         // as the caller saw them: tokens, or pieces of a stream
  std::vector<double> engine_token_s;  // the same as the engine drew them; empty: unknown
  std::string text;
  std::optional<double> energy_j;  // of the machine's processors meanwhile
  // What this run could do at most on this machine (measure/run_limits.h); null: unknown.
  std::optional<double> limit_decode_tok_s;
  std::optional<double> limit_ttft_s;

  // Whether the pieces that arrived are not the tokens that were generated: more tokens than pieces
  // (several in one), or fewer. One more is the stop token, which has no text.
  bool counts_differ() const;
  // Generated tokens after the first, over the time between the first and the last; null with less
  // than two tokens. Where the counts differ, of the tokens that the target told.
  std::optional<double> decode_tok_s() const;
  std::optional<double> tpot_s() const;  // time per output token after the first: 1 / decode_tok_s
  // Prompt tokens over the time to the first token, which includes drawing it.
  std::optional<double> prefill_tok_s() const;
  // What the answer would have taken with so many tokens: ttft_s + (tokens - 1) tpot_s.
  std::optional<double> e2e_at_length_s(double tokens) const;
};

class InFlight {
 public:
  // The target must outlive the object.
  explicit InFlight(BenchTarget& target) : target_(target) {}

  // `run` is what is known of it: task, warmup, intended_s. Fails when the target refuses it.
  Result<void> submit(const BenchRequest& request, BenchRun run);
  // Waits for events, not beyond `until_s`; returns the runs that have ended, failed ones among
  // them. Only a broken target is an error.
  Result<std::vector<BenchRun>> poll(double until_s);
  // Asks all to end; poll() returns them with FinishReason::kCancelled.
  void cancel();
  size_t count() const { return runs_.size(); }

 private:
  BenchTarget& target_;
  std::map<int64_t, BenchRun> runs_;  // by the target's number
};

}  // namespace quench
