// MeasuredModel: what a record says of the model whose speed or loss was measured. Plain values.
#pragma once

#include <cstdint>
#include <string>

#include "engine/session.h"

namespace quench {

struct MeasuredModel {
  std::string name;
  std::string sha256;  // empty: unknown (not computed beyond kMaxHashBytes)
  std::string family;  // below: empty and 0 where only a server's name for the model is known
  std::string format;  // formats of the matrices, the one with the most bytes first
  int64_t bytes = 0;   // of the weights in memory: matrices, norms, biases, rotary tables
  int64_t bytes_read_per_token = 0;
  int64_t num_parameters = 0;
};
constexpr int64_t kMaxHashBytes = int64_t{2} << 30;

MeasuredModel measured_model(const std::string& name, const Plan& plan, const std::string& sha256);

// Of the weight files; empty where there are none, or more than kMaxHashBytes.
Result<std::string> hash_weights(const ModelFiles& files, int threads);

}  // namespace quench
