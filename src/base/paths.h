// Where the files that ship with quench are (models/demo, tasks/, recipes/, hardware/, texts/), and
// where those of the user are kept.
#pragma once

#include <string>

#include "base/result.h"

namespace quench {

// The path of a shipped file or directory such as "models/demo": under $QUENCH_DATA when set, else
// beside the executable, installed (../share/quench) or in the source tree.
Result<std::string> data_path(const std::string& relative);

// Where quench keeps what it made for the user: `relative` under $XDG_DATA_HOME/quench, or under
// ~/.local/share/quench (XDG Base Directory Specification). Nothing is created.
Result<std::string> user_data_path(const std::string& relative);

// Where it keeps what it can make again: under $XDG_CACHE_HOME/quench, or under ~/.cache/quench.
// Empty where neither variable names a directory. Nothing is created.
std::string user_cache_path(const std::string& relative);

}  // namespace quench
