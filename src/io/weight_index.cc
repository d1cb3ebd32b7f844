#include "io/weight_index.h"

#include <algorithm>

#include "io/big_json.h"
#include "io/message.h"

namespace quench {
namespace {

namespace dom = simdjson::dom;

constexpr std::string_view kShardEnding = ".safetensors";

// A relative path that stays below the directory, of a safetensors file. What the name points to
// on the disk (a symbolic link of the Hugging Face cache, say) is the owner's business.
bool is_safe_shard_name(std::string_view name) {
  if (!name.ends_with(kShardEnding) || name.size() == kShardEnding.size()) return false;
  if (std::any_of(name.begin(), name.end(), [](char c) {
        return static_cast<unsigned char>(c) < 0x20 || c == '\\' || c == 0x7f;
      })) {
    return false;
  }
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;  // "" also for "/absolute"
    begin = end + 1;
  }
  return true;
}

Result<void> parse_weight_map(dom::element value, std::string_view where, WeightIndex& index) {
  dom::object object;
  if (value.get(object) != simdjson::SUCCESS) {
    return fail(ErrorCode::kInvalidFile,
                "{}: \"weight_map\" is {}, expected an object that maps tensors to shard files.",
                where, json_type_text(value));
  }
  for (const auto [name, item] : object) {
    std::string_view shard;
    if (item.get(shard) != simdjson::SUCCESS) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: \"weight_map\" has {} for tensor {}, expected the name of a shard file.",
                  where, json_type_text(item), in_quotes(name));
    }
    if (!is_safe_shard_name(shard)) {
      return fail(ErrorCode::kInvalidFile,
                  "{}: tensor {} is said to be in {}, expected a .safetensors file inside the "
                  "model directory.",
                  where, in_quotes(name), in_quotes(shard));
    }
    if (!index.weight_map.emplace(name, shard).second) {
      return fail(ErrorCode::kInvalidFile, "{}: \"weight_map\" has tensor {} twice, expected once.",
                  where, in_quotes(name));
    }
  }
  if (index.weight_map.empty()) {
    return fail(ErrorCode::kInvalidFile, "{}: \"weight_map\" is empty, expected the tensors.",
                where);
  }
  return {};
}

}  // namespace

Result<WeightIndex> parse_weight_index(std::string_view text, std::string_view where) {
  dom::parser parser;
  QUENCH_TRY(const dom::object root, parse_big_object(parser, text, fmt::format("{}: it", where)));
  WeightIndex index;
  bool has_map = false;
  bool has_metadata = false;
  for (const auto [key, value] : root) {
    if ((key == "weight_map" && has_map) || (key == "metadata" && has_metadata)) {
      return fail(ErrorCode::kInvalidFile, "{}: it has \"{}\" twice, expected once.", where, key);
    }
    if (key == "weight_map") {
      has_map = true;
      QUENCH_TRY_VOID(parse_weight_map(value, where, index));
    } else if (key == "metadata") {
      has_metadata = true;
      // Informative only, and published files disagree on its type: never an error.
      int64_t total = 0;
      if (value["total_size"].get(total) == simdjson::SUCCESS && total >= 0) {
        index.total_size_bytes = total;
      }
    }
  }
  if (!has_map) {
    return fail(ErrorCode::kInvalidFile,
                "{}: it has no \"weight_map\", expected an object that maps tensors to shard "
                "files.",
                where);
  }
  return index;
}

}  // namespace quench
