// Quantization algorithms: how the numbers of a matrix become the codes of a Format. One file each
// in this folder; the build finds them. An algorithm prepares an Encoder once for all matrices that
// share an input (what it learned from calibration texts is about inputs, not about weights), and
// the encoder then takes rows, which no algorithm here couples.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "devices/device.h"
#include "formats/format.h"
#include "formats/input_transform.h"
#include "quantize/symmetric_parts.h"

namespace quench {

// What calibration saw of the input x of a matrix, over all its tokens; where the matrix is stored
// for T(x), of T(x).
struct InputStats {
  int64_t tokens = 0;              // 0: no token ever came here (an expert that was never chosen)
  std::vector<float> mean_square;  // [cols] mean of x[i]^2
  std::vector<float> mean_abs;     // [cols] mean of |x[i]|
  SymmetricMatrix second_moment;   // [cols, cols] mean of x[i] x[j]; only where it was asked for
};

enum class Needs {
  kNothing,       // data-free
  kMeans,         // mean_square and mean_abs
  kSecondMoment,  // these and second_moment
};

class Encoder {
 public:
  virtual ~Encoder() = default;
  // rows [num_rows, cols] f32 become tiles in `first`, the planes at the first row. num_rows is a
  // multiple of the format's tile_rows. Any thread.
  virtual void encode(const float* rows, int64_t num_rows, const Planes& first) const = 0;
  // Of all calls of encode() so far, the seconds that went into carrying errors on.
  virtual double feedback_s() const { return 0.0; }
};

struct Algorithm {
  const char* name;
  const char* description;
  Needs needs;
  // Formats with a tile of several rows, or without encode, may not suit every algorithm.
  bool (*accepts)(const Format& format);
  // stats: null for data-free algorithms; what it holds may be taken or freed. `device` lends its
  // team; the encoder may not keep it.
  Result<std::unique_ptr<Encoder>> (*prepare)(const Format& format, int64_t cols, InputStats* stats,
                                              Device& device);
  bool scales_inputs = false;  // the channels of inputs are scaled first (scale_parts.h)
};

std::span<const Algorithm* const> all_algorithms();
Result<const Algorithm*> require_algorithm(std::string_view name);

bool all_finite(std::span<const float> values);

// How far an encoding is from its weights: squares, summed over weights.
struct EncodingErrors {
  double error = 0.0;  // of weight less stored value
  double norm = 0.0;   // of weight

  void add(const EncodingErrors& other) {
    error += other.error;
    norm += other.norm;
  }
};

// Of rows [num_rows, cols] that begin at the planes, for weights of the same shape.
EncodingErrors encoding_errors(const Format& format, const Planes& planes, int64_t num_rows,
                               int64_t cols, const float* weights);

}  // namespace quench
