// weighted: search, where the error of a weight counts as much as the mean square of its input: the
// diagonal of the inputs' second moment, which decides the output's error to first order.
#include "quantize/grid_parts.h"

namespace quench {
namespace {

Result<std::unique_ptr<Encoder>> prepare(const Format& format, int64_t cols, InputStats* stats,
                                         Device&) {
  return make_search_encoder(format, cols, stats);
}

}  // namespace

extern const Algorithm weighted_algorithm;
const Algorithm weighted_algorithm = {"weighted",
                                      "search, errors weighted by the mean square of the inputs",
                                      Needs::kMeans, is_writable_grid, prepare};

}  // namespace quench
