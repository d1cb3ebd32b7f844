#include "test_paths.h"

namespace quench {

std::string source_path(const std::string& relative) { return QUENCH_SOURCE_DIR "/" + relative; }
std::string program_path() { return QUENCH_BINARY; }

}  // namespace quench
