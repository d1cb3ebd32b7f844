// Recipes from a number: so many bits per weight, or so many bytes of memory. Roles get one of two
// neighbouring formats of a ladder, the sensitive ones the larger as far as the budget goes. Pure
// functions of a plan; any thread.
#pragma once

#include <span>

#include "plan/plan.h"

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
// What the plan's shapes cannot hold falls back as always (and may exceed the budget).
Result<Recipe> recipe_for_bits(const Plan& plan, double bits);

// The best that leaves room, in memory_bytes, for everything else the plan needs (the keys and
// values of its max_seq_len, activations).
Result<Recipe> recipe_for_memory(const Plan& plan, int64_t memory_bytes);

}  // namespace quench
