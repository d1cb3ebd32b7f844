// The same numbers in another format: codes, scales and zeros move, nothing is rounded. Pure
// functions; any thread.
#pragma once

#include "formats/format.h"

namespace quench {

// Whether every [rows, cols] matrix of `from` has a twin in `to` with exactly its values: the same
// levels, groups that are whole parts of its groups, a scale type that holds its scales, and zeros
// where it has some. Symmetric codes fit a format with zeros.
bool holds_numbers_of(const Format& to, const Format& from, int64_t rows, int64_t cols);

// rows [num_rows, cols] that begin at the planes. holds_numbers_of(to, from) is true.
void transcode_rows(const Format& from, const ConstPlanes& stored, const Format& to,
                    const Planes& out, int64_t num_rows, int64_t cols);

}  // namespace quench
