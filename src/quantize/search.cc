// search: round to nearest with the scale (and zero) of every tile searched for the least squared
// error.
#include "quantize/grid_parts.h"

namespace quench {
namespace {

Result<std::unique_ptr<Encoder>> prepare(const Format& format, int64_t cols, InputStats*, Device&) {
  return make_search_encoder(format, cols, nullptr);
}

}  // namespace

extern const Algorithm search_algorithm;
const Algorithm search_algorithm = {"search",
                                    "round to nearest, scales searched for the least error, "
                                    "data-free",
                                    Needs::kNothing, is_writable_grid, prepare};

}  // namespace quench
