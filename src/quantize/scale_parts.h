// Scaled input channels, the idea of AWQ (Lin et al. 2023, section 3.2): W x = (W S)(S^-1 x). A
// channel whose inputs are large gets a scale s > 1: its weights are rounded as parts of larger
// numbers, so that their errors, divided by s again, weigh less. S^-1 is folded into what makes x,
// so the result is a plain checkpoint:
//   the norm before a matrix         q, k, v; gate, up, router and the experts' gate and up
//   the rows of up                   down, of every expert by itself
//   the rows of v and its bias       o, where every head has keys and values of its own
// Plain values; made by one thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "quantize/calibrate.h"

namespace quench {

// What a tensor is multiplied by before it is stored; empty: by nothing.
struct TensorScaling {
  std::vector<float> cols;  // [cols], each column
  std::vector<float> rows;  // [rows], each row

  // values [num_rows, cols], the first of them row `row` of the tensor.
  void apply(float* values, int64_t row, int64_t num_rows, int64_t num_cols) const;
};
using LayerScaling = std::map<std::string, TensorScaling>;  // by tensor name

// Of the layer that `calibration` collected last. The scale of channel i is mean |x_i| to a power
// between 0 and 1, the one of 20 with the least error of the output on the calibration texts
// (mean of ||W x - Q(W S) S^-1 x||^2, from the inputs' second moment, over a sample of the rows).
// Tensors that are not named keep what they are.
Result<LayerScaling> scale_layer(const QuantizeJob& job, const QuantizeUnit& unit,
                                 const Calibration& calibration);

// The statistics of S^-1 x.
InputStats scaled_stats(const InputStats& stats, const std::vector<float>& scale);

}  // namespace quench
