// What was built: version and commit, for `--version` and for every record.
#pragma once

#include <string>

namespace quench {

std::string version_string();  // "0.1.0 (1a2b3c4)"
std::string
build_commit();  // "1a2b3c4", with "+" when the tree had changes; "unknown" outside a checkout

}  // namespace quench
