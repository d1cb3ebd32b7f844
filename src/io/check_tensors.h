// Comparison of a checkpoint's tensors with the inventory that a model family expects. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/checkpoint.h"

namespace quench {

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// Every expected tensor is there with its shape, and nothing else is but names that `is_known`
// accepts. The message names the first few of each kind.
Result<void> check_tensors(const Checkpoint& checkpoint, std::span<const ExpectedTensor> expected,
                           const std::function<bool(const std::string&)>& is_known);

// Whether `name` matches `pattern` as a whole; '*' stands for any run of characters:
// "*.rotary_emb.inv_freq".
bool matches_glob(std::string_view name, std::string_view pattern);

}  // namespace quench
