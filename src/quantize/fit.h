// Recipes from a number: so many bits per weight, or so many bytes of memory. Roles get one of two
// neighbouring formats of a ladder, the sensitive ones the larger as far as the budget goes. Any
// thread.
#pragma once

#include <span>

#include "quantize/quantize.h"

namespace quench {

// A format and its bits per weight, scales included.
struct Rung {
  const char* format;
  double bits;
};
// Fewest bits first.
std::span<const Rung> format_ladder();

double num_weights(const PlannedMatrix& matrix);
// Of what is never quantized: norms, biases, routers.
double bits_of_the_rest(const Plan& plan);

// plan: of the model as stored. bits: of the whole model, norms and routers included; 2.1 to 8.1.
// ladder: at least one rung, fewest bits first. Counts the bits of the rungs: what a job adds to
// them (scales of rows, formats of which a shape is no multiple) may exceed the budget.
Result<Recipe> recipe_for_bits(const Plan& plan, double bits,
                               std::span<const Rung> ladder = format_ladder());

// A budget of a job: exactly one is set. memory_bytes: of the model in memory, with the keys and
// values of its max_seq_len and activations.
struct SizeBudget {
  double bits = 0.0;
  int64_t memory_bytes = 0;
};
// The most that stays within the budget as plan_quantize(options) with this recipe counts it, in
// formats that options.layout holds.
Result<Recipe> recipe_within(const QuantizeOptions& options, const SizeBudget& budget);

}  // namespace quench
