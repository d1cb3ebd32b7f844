#include "io/big_json.h"

#include <algorithm>

namespace quench {
namespace {

// The deepest useful value is three levels down (a number in the shape of a tensor).
constexpr size_t kMaxDepth = 16;

}  // namespace

Result<simdjson::dom::object> parse_big_object(simdjson::dom::parser& parser, std::string_view text,
                                               std::string_view what) {
  // simdjson's memory is a multiple of the text, which the caller has bounded by its file.
  if (const auto error = parser.allocate(std::max<size_t>(text.size(), 64), kMaxDepth)) {
    return fail(ErrorCode::kOutOfMemory, "{} of {} bytes cannot be parsed: {}.", what, text.size(),
                simdjson::error_message(error));
  }
  simdjson::dom::element root;
  if (const auto error = parser.parse(text.data(), text.size()).get(root)) {
    if (error == simdjson::DEPTH_ERROR) {
      return fail(ErrorCode::kInvalidFile, "{} is nested deeper than {} levels, expected 3.", what,
                  kMaxDepth);
    }
    return fail(ErrorCode::kInvalidFile, "{} is not valid JSON ({}).", what,
                simdjson::error_message(error));
  }
  simdjson::dom::object object;
  if (root.get(object) != simdjson::SUCCESS) {
    return fail(ErrorCode::kInvalidFile, "{} is {}, expected a JSON object.", what,
                json_type_text(root));
  }
  return object;
}

const char* json_type_text(simdjson::dom::element element) {
  switch (element.type()) {
    case simdjson::dom::element_type::ARRAY:
      return "an array";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::INT64:
    case simdjson::dom::element_type::UINT64:
      return "an integer";
    case simdjson::dom::element_type::DOUBLE:
      return "a number that is no integer";
    case simdjson::dom::element_type::STRING:
      return "a string";
    case simdjson::dom::element_type::BOOL:
      return "a boolean";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
  }
  return "something else";
}

}  // namespace quench
