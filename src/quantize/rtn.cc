// rtn: round to nearest, each format in its own way (Format::encode).
#include "formats/trellis.h"
#include "quantize/encoder.h"

namespace quench {
namespace {

class RtnEncoder : public Encoder {
 public:
  RtnEncoder(const Format& format, int64_t cols, const Device& device)
      : format_(format), cols_(cols), trellis_step_(device.ops().trellis_step) {}
  void encode(const float* rows, int64_t num_rows, const Planes& first) const override {
    if (format_.trellis == nullptr) {
      format_.encode_rows(rows, num_rows, cols_, first);
      return;
    }
    for (int64_t r = 0; r < num_rows; r += format_.tile_rows) {
      trellis_format::encode_by(trellis_step_, format_, rows + r * cols_, cols_, cols_,
                                format_.row_planes(first, r, cols_));
    }
  }

 private:
  const Format& format_;
  int64_t cols_;
  TrellisStep trellis_step_;  // the device's
};

bool accepts(const Format& format) { return format.encode != nullptr; }

Result<std::unique_ptr<Encoder>> prepare(const Format& format, int64_t cols, InputStats*,
                                         Device& device) {
  return std::make_unique<RtnEncoder>(format, cols, device);
}

}  // namespace

extern const Algorithm rtn_algorithm;
const Algorithm rtn_algorithm = {"rtn", "round to nearest, data-free", Needs::kNothing, accepts,
                                 prepare};

}  // namespace quench
