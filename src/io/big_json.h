// Parsing of multi-megabyte JSON (safetensors headers and indexes) with simdjson, for .cc files of
// this folder only. The returned element points into the parser, which the caller owns and must
// keep; one thread per parser.
#pragma once

#include <simdjson.h>

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace quench {

// The root object. `what` names the text in the message: "model.safetensors: the header".
Result<simdjson::dom::object> parse_big_object(simdjson::dom::parser& parser, std::string_view text,
                                               std::string_view what);

// "an integer", "a string": the type that was found, for messages.
const char* json_type_text(simdjson::dom::element element);

}  // namespace quench
