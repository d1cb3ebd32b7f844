#include "quantize/fit.h"

#include <algorithm>
#include <array>
#include <map>

#include "io/quant_writer.h"

namespace quench {
namespace {

// Each better than the one before it on every model that was tried.
constexpr std::array<Rung, 7> kLadder = {{{"trellis2", 2.02},
                                          {"trellis2.5", 2.52},
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

Result<Recipe> recipe_for_bits(const Plan& plan, double bits, std::span<const Rung> ladder) {
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
  while (rung + 1 < ladder.size() && ladder[rung + 1].bits * quantized <= left) ++rung;
  left -= ladder[rung].bits * quantized;
  if (left < 0.0) {
    return fail(
        ErrorCode::kInvalidArgument,
        "{:.3f} bits per weight cannot be had: the smallest format has {} and what is not "
        "quantized (norms, routers) takes its own; at least {:.3f} are needed.",
        bits, ladder[0].bits,
        (ladder[0].bits * quantized + plain_bits) / static_cast<double>(plan.num_parameters));
  }
  Recipe recipe;
  recipe.name = fmt::format("{:.3g} bits", bits);
  recipe.default_format = ladder[rung].format;
  recipe.algorithm = "gptq";
  recipe.rotate = ladder[rung].bits < 4.0;
  if (rung + 1 == ladder.size()) return recipe;
  const double step = ladder[rung + 1].bits - ladder[rung].bits;
  for (const Role role : kOrder) {
    const auto it = weights.find(role);
    if (it == weights.end() || step * it->second > left) continue;
    left -= step * it->second;
    recipe.role_formats[role_row(role).name] = ladder[rung + 1].format;
  }
  return recipe;
}

namespace {

// How much of the budget the job of a recipe takes.
Result<double> taken(const QuantizeOptions& options, const SizeBudget& budget,
                     const Recipe& recipe) {
  QuantizeOptions trial = options;
  trial.recipe = recipe;
  QUENCH_TRY(const QuantizeJob job, plan_quantize(trial));
  if (budget.bits > 0.0) return job.bits_per_weight();
  SessionOptions session = options.session;
  session.recipe = recipe;
  QUENCH_TRY(const auto model, plan_model(session, Weights::kRequired));
  const Plan& plan = model->plan;
  // The loader keeps a matrix as the file does where it can, which is not always smaller.
  return static_cast<double>(plan.total_bytes() +
                             std::max<int64_t>(job.bytes - plan.weights_bytes, 0));
}

// The rungs that the layout has room for, judged by the first matrix of a layer.
Result<std::vector<Rung>> rungs_of_layout(const std::string& layout, const Plan& plan) {
  QUENCH_TRY(const QuantWriter* writer, require_quant_writer(layout));
  std::vector<Rung> rungs;
  for (const Rung& rung : kLadder) {
    const bool holds =
        std::any_of(plan.matrices.begin(), plan.matrices.end(), [&](const PlannedMatrix& matrix) {
          const TensorSpec& spec = matrix.sources.front();
          return spec.layer >= 0 && role_row(spec.role).is_quantized &&
                 writer->accepts(*find_format(rung.format), spec.rows, spec.cols,
                                 InputTransform::Kind::kNone);
        });
    if (holds) rungs.push_back(rung);
  }
  if (rungs.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "The layout {} holds none of the formats that a budget chooses among (trellis2 to "
                "int8): give --format instead.",
                layout);
  }
  return rungs;
}

std::string budget_text(const SizeBudget& budget, double amount) {
  return budget.bits > 0.0 ? fmt::format("{:.3f} bits per weight", amount)
                           : fmt::format("{:.4g} GB", amount * 1e-9);
}

}  // namespace

Result<Recipe> recipe_within(const QuantizeOptions& options, const SizeBudget& budget) {
  constexpr int kMostTries = 16;
  constexpr double kLeastStep = 0.005;  // bits per weight
  QUENCH_TRY(const auto stored, plan_model(options.session, Weights::kRequired));
  const Plan& plan = stored->plan;
  QUENCH_TRY(const std::vector<Rung> ladder, rungs_of_layout(options.layout, plan));
  const auto parameters = static_cast<double>(plan.num_parameters);
  const double limit = budget.bits > 0.0 ? budget.bits : static_cast<double>(budget.memory_bytes);
  double bits = budget.bits;
  if (budget.memory_bytes > 0) {
    const int64_t rest = plan.total_bytes() - plan.weights_bytes;
    if (budget.memory_bytes <= rest) {
      return fail(ErrorCode::kInvalidArgument,
                  "{:.4g} GB are not enough: keys and values of {} tokens and the activations "
                  "alone take {:.4g} GB; a shorter --max-seq-len needs less.",
                  limit * 1e-9, plan.max_seq_len, static_cast<double>(rest) * 1e-9);
    }
    bits = std::min(8.0 * static_cast<double>(budget.memory_bytes - rest) / parameters,
                    ladder.back().bits + 0.1);
  }
  double smallest = 0.0;  // of what was tried
  for (int i = 0; i < kMostTries; ++i) {
    auto recipe = recipe_for_bits(plan, bits, ladder);
    if (!recipe && smallest == 0.0) {
      if (budget.bits > 0.0) return recipe;
      return fail(recipe.error().code, "{} with {} tokens of context: {}",
                  budget_text(budget, limit), plan.max_seq_len, recipe.error().message);
    }
    if (!recipe) break;
    QUENCH_TRY(const double amount, taken(options, budget, *recipe));
    if (amount <= limit) {
      if (budget.bits > 0.0) recipe->name = fmt::format("{:.3g} bits", budget.bits);
      return recipe;
    }
    smallest = amount;
    const double over = (amount - limit) * (budget.bits > 0.0 ? 1.0 : 8.0 / parameters);
    bits -= std::max(over, kLeastStep);
  }
  return fail(ErrorCode::kInvalidArgument,
              "{} cannot be had of {}: with scales, what falls back and what is never quantized, "
              "the smallest that was found takes {}.",
              budget_text(budget, limit), stored->files.name, budget_text(budget, smallest));
}

}  // namespace quench
