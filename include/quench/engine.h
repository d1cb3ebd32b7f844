// The engine: prompts in, tokens out. The caller owns the loop: submit, then step until idle. Not
// thread-safe: one thread drives one engine; inside a step the engine uses the device's threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "quench/result.h"
#include "quench/sampling.h"

namespace quench {

struct Plan;
class Device;
struct Model;

using RequestId = int64_t;

struct Request {
  std::vector<int32_t> prompt;  // token ids, at least one
  SamplingSettings
      sampling;  // stop_strings are for the layer that knows text (generation.h); ids count here
};

struct Event {
  RequestId id = 0;
  int32_t token = -1;     // the token drawn in this step; -1 when the event only ends the request
  bool finished = false;  // the last event of this request
  FinishReason reason = FinishReason::kStop;  // when finished
  std::string message;                        // when reason is kError
  double time_s = 0.0;                        // steady clock, when the token was drawn
};

struct EngineStatus {
  int64_t waiting = 0;
  int64_t running = 0;
  int64_t pages_total = 0;
  int64_t pages_free = 0;
};

class Engine {
 public:
  // The model was loaded by this plan on this device; both must outlive the engine. vocab_size: ids
  // of the tokenizer; embedding rows beyond it are never sampled.
  static Result<std::unique_ptr<Engine>> open(const Plan& plan, const Model& model, Device& device,
                                              int64_t vocab_size);
  ~Engine();

  // Validates; the request waits until its pages are free. Errors: ids out of range, prompt longer
  // than the plan's max_seq_len - 1.
  Result<RequestId> submit(Request request);
  // Runs one batch and returns its events; empty when there is nothing to do. The span is valid
  // until the next call.
  std::span<const Event> step();
  // Ends a request at once; its event comes with the next step(). Unknown ids are ignored.
  void cancel(RequestId id);
  bool idle() const;
  EngineStatus status() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace quench
