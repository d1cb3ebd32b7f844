// awq: the channels of the inputs are scaled first (scale_parts.h), then every tile is searched as
// by `search`, or rounded by the format's own encoder where that searches itself (GGUF's blocks).
// The result is a plain checkpoint in any format, also of other programs.
#include "quantize/grid_parts.h"

namespace quench {
namespace {

// Not what is coded in blocks of rows, and nothing that hardly rounds.
bool accepts(const Format& format) {
  return format.encode != nullptr && format.tile_rows == 1 && format.trellis == nullptr &&
         format.bits <= 8;
}

Result<std::unique_ptr<Encoder>> prepare_scaled(const Format& format, int64_t cols, InputStats*,
                                                Device&) {
  return make_search_encoder(format, cols, nullptr);
}

}  // namespace

extern const Algorithm awq_algorithm;
const Algorithm awq_algorithm = {
    "awq",
    "input channels scaled for the least output error (AWQ), then search",
    Needs::kSecondMoment,
    accepts,
    prepare_scaled,
    true};

}  // namespace quench
