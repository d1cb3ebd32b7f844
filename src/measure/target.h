// BenchTarget: what can be measured: the engine in this process (engine_target.h) or a server
// behind HTTP (http_target.h). Both have the same calls and stand under the same clock and
// protocol.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/json.h"
#include "quench/sampling.h"

namespace quench {

struct BenchRequest {
  std::string prompt;          // one user message; the target applies its chat template
  SamplingSettings sampling;   // the target adds its model's stop tokens
  bool length_locked = false;  // instead: no stop tokens, the answer has max_new_tokens
};

// One generated token, or the end of a request. A target that sees several tokens at once reports
// one event for each, all with the time of their arrival; a server behind HTTP sends pieces of
// text, mostly of one token each, and a piece is one event.
struct BenchEvent {
  int64_t request = 0;
  bool is_token = false;
  std::string text;                     // what may be shown after what came before
  double time_s = 0.0;                  // steady clock, when the caller's side saw it
  std::optional<double> engine_time_s;  // the same clock, when the engine drew it; null over HTTP
  bool finished = false;                // the last event of the request; below: only then
  FinishReason reason = FinishReason::kStop;
  std::string message;                      // when reason is kError
  std::optional<int64_t> prompt_tokens;     // null when the target does not tell
  std::optional<int64_t> generated_tokens;  // by the target's own count; null: it does not tell
};

// One thread drives a target.
class BenchTarget {
 public:
  virtual ~BenchTarget() = default;
  // What a record says of it, as far as the target knows: "device", "isa", "kernels", "plan", ...
  virtual Json describe() const = 0;
  // Returns the request's number. An error means that this request was refused.
  virtual Result<int64_t> submit(const BenchRequest& request) = 0;
  // Waits for the next events of any request, but not beyond `until_s` on the steady clock, as far
  // as the target can stop waiting (an engine does not stop inside a step). The span, which may be
  // empty, is valid until the next call.
  virtual Result<std::span<const BenchEvent>> poll(double until_s) = 0;
  // The end comes as an event with kCancelled.
  virtual void cancel(int64_t request) = 0;
};

}  // namespace quench
