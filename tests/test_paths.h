// Where the tests find the source tree and the program. The only file that knows absolute paths is
// test_paths.cc, so that a compiler cache serves every other test in any checkout.
#pragma once

#include <string>

namespace quench {

// "models/demo" -> its absolute path in the source tree; "" -> the root.
std::string source_path(const std::string& relative);
// The built program.
std::string program_path();

}  // namespace quench
