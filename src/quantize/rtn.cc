// rtn: round to nearest, each format in its own way (Format::encode).
#include "quantize/encoder.h"

namespace quench {
namespace {

class RtnEncoder : public Encoder {
 public:
  RtnEncoder(const Format& format, int64_t cols) : format_(format), cols_(cols) {}
  void encode(const float* rows, int64_t num_rows, const Planes& first) const override {
    format_.encode_rows(rows, num_rows, cols_, first);
  }

 private:
  const Format& format_;
  int64_t cols_;
};

bool accepts(const Format& format) { return format.encode != nullptr; }

Result<std::unique_ptr<Encoder>> prepare(const Format& format, int64_t cols, const InputStats*,
                                         Device&) {
  return std::make_unique<RtnEncoder>(format, cols);
}

}  // namespace

extern const Algorithm rtn_algorithm;
const Algorithm rtn_algorithm = {"rtn", "round to nearest, data-free", Needs::kNothing, accepts,
                                 prepare};

}  // namespace quench
