// GGUF's IQ2 and IQ3 types, which quench reads and does not write: eight (or four) neighbours
// together are one point of a set of 256 to 1024, with a sign each. Finding good points needs the
// importance of every weight, which a Format does not know.
#pragma once

#include <vector>

#include "formats/format.h"

namespace quench::ggml {

std::vector<Format> point_formats();

}  // namespace quench::ggml
