// Hypotheses: what could make a number what it is, each with its arithmetic. A hypothesis predicts
// a range of times for the same request; it fits when the claim lies in it. Pure functions; any
// thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "measure/analyze/predict.h"
#include "measure/report/strings.h"

namespace quench {

// A number that somebody has: one of latency_s (of one whole request), tok_s, memory_bytes.
struct Claim {
  Placement placement;  // output_tokens is what is assumed when has_tokens is false
  std::string engine_text;
  bool has_tokens = false;
  std::optional<double> latency_s;
  std::optional<double> tok_s;
  std::optional<double> memory_bytes;

  // Time of the whole request, from whichever was given.
  double request_s() const;
  // A time of the whole request in the unit of the claim: "12.3 tok/s", or "0.7 s".
  std::string text_of(double request_s) const;
};

// What a device's memory lacks for a model, beyond what the prediction of memory errs.
struct Shortage {
  double needed_bytes = 0.0;
  double usable_bytes = 0.0;  // of all the devices
  double link_bytes_per_s = 0.0;
  // The request's time with as much as possible on the device, and with all of it in host memory
  // behind a quarter of the link.
  double low_s = 0.0;
  double high_s = 0.0;

  double missing_bytes() const { return needed_bytes - usable_bytes; }
  // Nothing that runs on these devices alone is so fast.
  bool rules_out(double request_s) const;
};
// nullopt: it fits, or the device works in the host's own memory.
std::optional<Shortage> find_shortage(const Claim& claim, const Prediction& sound);

struct Hypothesis {
  std::string id;      // "offload", "fp32", ...
  Sentence statement;  // with its arithmetic
  Sentence check;      // what to look at
  double low_s = 0.0;  // the request's time if it is true
  double high_s = 0.0;
  bool fits = false;
  double score = 0.0;  // higher is better: common causes and sharp predictions that hit
};

// Every cause that could apply to a request slower (or faster) than `sound`, those that fit first.
// seen: what is predicted with the engine's known pathologies.
std::vector<Hypothesis> time_hypotheses(const Predictor& predictor, const Claim& claim,
                                        const Prediction& sound, const Prediction& seen);
// The same for memory; low_s and high_s are bytes there.
std::vector<Hypothesis> memory_hypotheses(const Predictor& predictor, const Claim& claim,
                                          const Prediction& sound);

}  // namespace quench
