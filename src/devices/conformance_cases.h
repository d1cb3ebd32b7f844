// Cases of ops. A case runs an op over all its rows in calls of `step` rows, so that one function
// serves the comparison with ref, and the bitwise ones: any step, any number of workers. For
// conformance*.cc only.
#pragma once

#include <functional>

#include "devices/conformance_data.h"

namespace quench::conformance {

struct OpCase {
  std::string name;
  std::string shape;
  int64_t rows;  // of the output
  int64_t cols;
  double tolerance;
  bool can_split;  // false: the op is about all its rows together
  // The outputs [rows, cols] of calls of at most `step` rows; false in *intact: a guard was hit.
  std::function<std::vector<float>(Device& device, const Ops& ops, int64_t step, bool* intact)> run;
};

// Calls body(first, count) for [0, rows) in pieces of `step`.
template <class Body>
void in_steps(int64_t rows, int64_t step, Body body) {
  for (int64_t first = 0; first < rows; first += step) body(first, std::min(step, rows - first));
}

// kv_store and attention.
void add_attention_cases(std::vector<OpCase>& cases, Effort effort);

}  // namespace quench::conformance
