// The step model: how long a token takes on a device, from bytes, arithmetic and a handful of
// constants of the program (measure/analyze/engines.h). Pure functions; any thread.
#pragma once

#include "measure/analyze/engines.h"
#include "measure/analyze/shape.h"
#include "plan/hardware.h"

namespace quench {

// What is run where.
struct Placement {
  ModelShape shape;
  EngineRow engine;
  Precision precision;
  Hardware device;
  int64_t devices = 1;
  double prompt_tokens = 1.0;
  double output_tokens = 2048.0;
  double batch = 1.0;
  double kv_bits = 16.0;
};

// One decoded token of every sequence of the batch, and how its time comes about.
struct StepTerms {
  double weights_bytes = 0.0;  // read by one device
  double kv_bytes = 0.0;       // read once by one device; the engine may do so several times
  double flop = 0.0;           // of one device
  double host_s = 0.0;         // the host program, beside the device
  double expert_s = 0.0;       // of host_s: the loop over experts
  double weights_s = 0.0;      // of the layers
  double head_s = 0.0;         // of the output head, which waits for the layers
  double kv_s = 0.0;
  double compute_s = 0.0;  // beside weights_s: the larger counts
  double gap_s = 0.0;
  double collective_s = 0.0;
  double step_s = 0.0;
  double total_s = 0.0;

  double device_s() const;
  // "host", "weights", "kv", "compute", "collectives", "step": the largest part.
  const char* bound() const;
};

// context: tokens in the cache of each sequence.
StepTerms decode_step(const Placement& setup, const StepConstants& constants, double context);

// From the prompt to the first token; a prompt of one token is a decode step.
StepTerms prefill(const Placement& setup, const StepConstants& constants);

// output_tokens after the prompt, of the whole batch: prefill, then every step at its context.
double request_s(const Placement& setup, const StepConstants& constants);

// Bytes of the model's weights as they are stored.
double stored_weights_bytes(const ModelShape& shape, const Precision& precision);
double kv_bytes_per_token(const ModelShape& shape, double kv_bits = 16.0);

}  // namespace quench
