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

// A model and how to run it. Zero and empty mean: decided by the model and the machine.
struct EngineOptions {
  std::string model = "demo";   // a directory, or "demo" for the model that ships
  bool random_weights = false;  // seeded; model may then be an official name such as Qwen2.5-7B
  uint64_t weights_seed = 0;
  std::string format;  // of all quantizable matrices; empty: as stored
  std::string recipe;  // a recipe instead: a file, or the name of one that ships
  std::string device = "cpu";
  std::string isa;                 // CPU level to force
  int threads = 0;                 // 0: the CPUs this process may use
  int64_t max_batch_size = 8;      // sequences at once
  int64_t max_seq_len = 0;         // prompt and answer; 0: the model's limit, at most 4096
  int64_t max_step_tokens = 512;   // of all sequences in one step
  std::string kv_format = "bf16";  // of keys and values: f32, bf16, int8
  int64_t kv_tokens = 0;           // room for keys and values of all sequences; 0: all at their
                                   // longest, or what fits into memory if that is less
  int64_t speculation = 4;         // tokens drafted at most per sequence and step; 0: off
  bool reuse_prefixes = true;      // keep keys and values for prompts that begin the same
};

using RequestId = int64_t;

struct Request {
  std::vector<int32_t> prompt;  // token ids, at least one
  // stop_strings are for the layer that knows text (generation.h); ids count here.
  SamplingSettings sampling;
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
  int64_t pages_free = 0;     // held by no sequence; what is in them is kept until space is wanted
  int64_t cached_tokens = 0;  // kept in free pages, for prompts that begin the same
  // Since the engine was opened.
  int64_t computed_tokens = 0;  // fed to the model, drafts and recomputation included
  int64_t reused_tokens = 0;    // found among the kept pages instead
  int64_t preemptions = 0;      // a sequence gave its pages to an older one and waited again
  int64_t drafted_tokens = 0;   // by speculation
  int64_t accepted_tokens = 0;  // of these, that were right: each saved a step
};

class Engine {
 public:
  // Opens the model and loads its weights. Ids that the model's tokenizer does not have are never
  // sampled.
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options);
  ~Engine();

  // Validates; the request waits until the beginning of its prompt fits. Errors: ids out of range,
  // a prompt of max_seq_len tokens or more, a request that can never fit. max_new_tokens is cut to
  // what max_seq_len leaves.
  Result<RequestId> submit(Request request);
  // Runs one batch and returns its events: one per token, several of one request where speculation
  // was right. Empty when no token was drawn. The span is valid until the next call.
  std::span<const Event> step();
  // Ends a request, wherever it stands; its last event comes with the next step(). Unknown ids,
  // those that have ended among them, are ignored.
  void cancel(RequestId id);
  bool idle() const;
  EngineStatus status() const;

  class Impl;  // the inside of the library
  explicit Engine(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace quench
