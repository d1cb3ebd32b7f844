// Loader: executes a Plan. Reads (or draws) each tensor row block by row block, encodes it where
// the plan wants another format than the stored one, and packs it for its kernel. Memory beyond the
// plan's: one row block per worker.
#pragma once

#include <functional>

#include "engine/weight_source.h"
#include "models/model.h"
#include "plan/plan.h"

namespace quench {

// How a source holds a tensor, for make_plan().
inline Stored stored_in(const WeightSource& source, const TensorSpec& spec) {
  return {source.stored_format(spec), source.transform(spec)};
}

// Called after every tensor with bytes of weights done and planned; returns false to stop loading.
using LoadProgress = std::function<bool(int64_t done_bytes, int64_t total_bytes)>;

// Weights that serve where their file holds them (MatmulKernel::in_file) until there is time to
// pack them: packing 3 GB takes a second, most of it the kernel's for clean pages. The bits of
// every output are the same before and after. A MoE layer's experts are packed at once: they are
// not side by side in a file.
class LateWeights {
 public:
  bool done() const { return next_ == matrices_.size(); }
  // Packs weights, one at least, until `seconds` have passed or all are done. Between two runs of
  // the device, by the thread that drives it. Plan, source and device are load_model()'s, and the
  // model the one that it made.
  void advance(const WeightSource& source, Device& device, Model& model, double seconds);

 private:
  friend class Loader;
  struct Matrix {
    const PlannedMatrix* planned;
    const std::byte* in_file;
    std::byte* packed;  // planned->bytes of the model's memory
  };
  std::vector<Matrix> matrices_;
  size_t next_ = 0;
};

// Allocated bytes equal plan.weights_bytes + plan.vectors_bytes, checked. With `late`, weights that
// can wait are left to it.
Result<Model> load_model(const Plan& plan, const WeightSource& source, Device& device,
                         const LoadProgress& progress, LateWeights* late = nullptr);

}  // namespace quench
