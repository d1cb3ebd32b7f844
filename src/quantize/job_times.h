// Where the time of a quantization goes, by part. Owns numbers only; one thread.
#pragma once

#include <array>

#include "base/clock.h"
#include "base/json.h"

namespace quench {

enum class JobPart : int {
  kRead,           // a layer's weights into memory, for the calibration texts
  kForward,        // the texts through the layer
  kSecondMoments,  // what its inputs looked like
  kFactorization,  // of the second moments, rotations and scalings included
  kFeedback,       // of rounding: products with the errors so far
  kRounding,       // reading the weights again, choosing scales and codes
  kWrite,          // codes to the disk
};
constexpr int kNumJobParts = 7;

class JobTimes {
 public:
  // Adds what passes while it lives.
  class Span {
   public:
    Span(JobTimes& times, JobPart part) : times_(times), part_(part), start_s_(now_s()) {}
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;
    ~Span() { times_.add(part_, now_s() - start_s_); }

   private:
    JobTimes& times_;
    JobPart part_;
    double start_s_;
  };

  void add(JobPart part, double seconds) { part_s_[static_cast<size_t>(part)] += seconds; }
  double part_s(JobPart part) const { return part_s_[static_cast<size_t>(part)]; }

  // Parts that took any time: "forward 1.2 s, second moments 0.9 s, ...".
  std::string text() const;
  // {"forward_s": 1.2, ...}, all parts.
  Json json() const;

 private:
  std::array<double, kNumJobParts> part_s_{};
};

}  // namespace quench
