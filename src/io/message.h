// Pieces of error messages about foreign files. Names come from the file: they are quoted,
// shortened, and control characters are escaped, so that a file cannot write to the terminal. Pure
// functions; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace quench {

// "model.embed_tokens.weight", in quotes.
std::string in_quotes(std::string_view name);
// [151936, 896]
std::string shape_text(std::span<const int64_t> shape);
// The first few of `names`, quoted: "a", "b", "c" and 7 more
std::string first_names(std::span<const std::string> names);

}  // namespace quench
