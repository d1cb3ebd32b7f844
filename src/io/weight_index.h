// model.safetensors.index.json: which shard holds which tensor. Plain data, owned by the caller.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace quench {

struct WeightIndex {
  // Tensor name -> shard, a file name below the index's directory.
  std::map<std::string, std::string, std::less<>> weight_map;
  // "metadata"."total_size" as written; absent when missing or no integer.
  std::optional<int64_t> total_size_bytes;
};

// `where` stands for the path in messages.
Result<WeightIndex> parse_weight_index(std::string_view text, std::string_view where);

}  // namespace quench
