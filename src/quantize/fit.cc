#include "quantize/fit.h"

#include <algorithm>
#include <array>
#include <map>

namespace quench {
namespace {

// Each better than the one before it on every model that was tried.
constexpr std::array<Rung, 6> kLadder = {{{"trellis2", 2.02},
                                          {"trellis3", 3.02},
                                          {"int4_g128", 4.125},
                                          {"int5_g128", 5.125},
                                          {"int6_g128", 6.125},
                                          {"int8", 8.02}}};
// Who is raised first: small and sensitive before large and robust.
constexpr Role kOrder[] = {Role::kV,          Role::kK,          Role::kO,         Role::kQ,
                           Role::kSharedDown, Role::kSharedGate, Role::kSharedUp,  Role::kDown,
                           Role::kExpertDown, Role::kHead,       Role::kEmbedding, Role::kUp,
                           Role::kExpertUp,   Role::kGate,       Role::kExpertGate};

}  // namespace

std::span<const Rung> format_ladder() { return kLadder; }

double num_weights(const PlannedMatrix& matrix) {
  double count = 0.0;
  for (const TensorSpec& spec : matrix.sources) count += static_cast<double>(spec.rows * spec.cols);
  return count;
}

double bits_of_the_rest(const Plan& plan) {
  double bits = 0.0;
  for (const PlannedMatrix& matrix : plan.matrices) {
    if (!role_row(matrix.role).is_quantized) bits += 16.0 * num_weights(matrix);
  }
  for (const PlannedVector& vector : plan.vectors)
    bits += 16.0 * static_cast<double>(vector.source.cols);
  return bits;
}

Result<Recipe> recipe_for_bits(const Plan& plan, double bits) {
  std::map<Role, double> weights;  // of each role that is quantized
  double quantized = 0.0;
  for (const PlannedMatrix& matrix : plan.matrices) {
    if (!role_row(matrix.role).is_quantized) continue;
    weights[matrix.role] += num_weights(matrix);
    quantized += num_weights(matrix);
  }
  const double plain_bits = bits_of_the_rest(plan);
  double left = bits * static_cast<double>(plan.num_parameters) - plain_bits;
  size_t rung = 0;
  while (rung + 1 < kLadder.size() && kLadder[rung + 1].bits * quantized <= left) ++rung;
  left -= kLadder[rung].bits * quantized;
  if (left < 0.0) {
    return fail(
        ErrorCode::kInvalidArgument,
        "{:.3f} bits per weight cannot be had: the smallest format has {} and what is not "
        "quantized (norms, routers) takes its own; at least {:.3f} are needed.",
        bits, kLadder[0].bits,
        (kLadder[0].bits * quantized + plain_bits) / static_cast<double>(plan.num_parameters));
  }
  Recipe recipe;
  recipe.name = fmt::format("{:.3g} bits", bits);
  recipe.default_format = kLadder[rung].format;
  recipe.algorithm = "gptq";
  recipe.rotate = kLadder[rung].bits < 4.0;
  if (rung + 1 == kLadder.size()) return recipe;
  const double step = kLadder[rung + 1].bits - kLadder[rung].bits;
  for (const Role role : kOrder) {
    const auto it = weights.find(role);
    if (it == weights.end() || step * it->second > left) continue;
    left -= step * it->second;
    recipe.role_formats[role_row(role).name] = kLadder[rung + 1].format;
  }
  return recipe;
}

Result<Recipe> recipe_for_memory(const Plan& plan, int64_t memory_bytes) {
  const int64_t rest = plan.total_bytes() - plan.weights_bytes;
  const double bits =
      8.0 * static_cast<double>(memory_bytes - rest) / static_cast<double>(plan.num_parameters);
  if (memory_bytes <= rest) {
    return fail(ErrorCode::kInvalidArgument,
                "{:.2f} GB are not enough: keys and values of {} tokens and the activations alone "
                "take {:.2f} GB; a shorter --max-seq-len needs less.",
                static_cast<double>(memory_bytes) * 1e-9, plan.max_seq_len,
                static_cast<double>(rest) * 1e-9);
  }
  auto recipe = recipe_for_bits(plan, std::min(bits, kLadder.back().bits + 0.1));
  if (!recipe) {
    return fail(recipe.error().code, "{:.2f} GB with {} tokens of context: {}",
                static_cast<double>(memory_bytes) * 1e-9, plan.max_seq_len, recipe.error().message);
  }
  return recipe;
}

}  // namespace quench
