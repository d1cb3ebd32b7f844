// awq_gptq: the channels of the inputs are scaled as by `awq`, then errors are fed back as by
// `gptq`, with the statistics of the scaled inputs.
#include "quantize/grid_parts.h"

namespace quench {
namespace {

bool accepts(const Format& format) { return format.grid.write != nullptr; }

Result<std::unique_ptr<Encoder>> prepare_fed_back(const Format& format, int64_t cols,
                                                  InputStats* stats, Device& device) {
  QUENCH_TRY(const Algorithm* gptq, require_algorithm("gptq"));
  return gptq->prepare(format, cols, stats, device);
}

}  // namespace

extern const Algorithm awq_gptq_algorithm;
const Algorithm awq_gptq_algorithm = {"awq_gptq", "awq's scaling, then gptq", Needs::kSecondMoment,
                                      accepts,    prepare_fed_back,           true};

}  // namespace quench
