// Files that are part of the program, such as the page of a report: what cmake/embed.cmake lists.
// They live as long as the process; any thread.
#pragma once

#include <string_view>

namespace quench {

// By the name that cmake/embed.cmake gave it. An unknown name is a bug.
std::string_view embedded_file(std::string_view name);

}  // namespace quench
