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

// Allocated bytes equal plan.weights_bytes + plan.vectors_bytes, checked.
Result<Model> load_model(const Plan& plan, const WeightSource& source, Device& device,
                         const LoadProgress& progress);

}  // namespace quench
