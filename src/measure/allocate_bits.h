// Where a budget of bits does the most good: how much each group of matrices (a role of a layer)
// adds to the loss when it alone is coarse is measured, and the groups get formats so that the
// predicted sum is the least that the budget allows. Kept only where the model made so loses less,
// on text that neither calibration nor the measuring saw, than the same bits by the fixed order of
// roles (quantize/fit.h). Plain values; one thread drives the measuring.
#pragma once

#include "measure/choose_format.h"
#include "quantize/fit.h"
#include "quantize/quantize.h"

namespace quench {

// One role of one layer, or of neighbouring layers where there are many.
struct BitGroup {
  Role role;
  std::vector<int64_t> layers;  // {-1}: in no layer
  double weights = 0.0;
  double coarse_kld = 0.0;  // mean KL divergence with this group alone in kCoarseFormat
};
// Rounded to nearest: coarse enough to be seen in one group of fifty, fine enough to be a sum.
constexpr const char* kCoarseFormat = "int3_g64";
constexpr int64_t kMostBitGroups = 96;

// The roles that are quantized, by layer; bands of layers where there would be more than `most`.
std::vector<BitGroup> bit_groups(const Plan& plan, int64_t most = kMostBitGroups);

// Mean square error of normally distributed weights over their variance, rounded to nearest.
Result<double> normal_distortion(const std::string& format, Device& device);

// `distortions` of each rung, fewest bits first. Every group starts on the first rung; the group
// whose loss falls the most per bit is raised, while the budget of bits lasts. That a group's loss
// is proportional to the distortion, and the sum is the model's, holds for small errors
// (Malinovskii et al. 2024, "Pushing the Limits of Large Language Model Quantization via the
// Linearity Theorem"). Returns the rung of each group.
std::vector<size_t> allocate_rungs(const std::vector<BitGroup>& groups, std::span<const Rung> rungs,
                                   const std::vector<double>& distortions, double coarse_distortion,
                                   double bits);

struct BitAllocation {
  Recipe preset;    // by role
  Recipe measured;  // by measurement
  std::vector<BitGroup> groups;
  std::optional<ClusteredMean> preset_kld, measured_kld;  // of the models made, on held-out text
  int64_t preset_bytes = 0, measured_bytes = 0;
  bool is_accepted = false;
};

struct AllocatedModel {
  BitAllocation allocation;
  QuantizeJob job;  // of the model that was kept
  QuantizeReport report;
};
// preset: of recipe_for_bits() with the same bits, of the whole model. Measures the groups on the
// calibration text (options.calibration), makes both models, the one that is not kept beside
// options.out for as long as it takes, judges them on measuring.text_path, and leaves the better in
// options.out with a file allocation.json. After an interrupt, options.resume measures only the
// groups that are left; options.session is a model with a checkpoint.
Result<AllocatedModel> make_allocated(const QuantizeOptions& options, const Recipe& preset,
                                      const ChoiceOptions& measuring);

// {"accepted", "preset": {"bytes", "kld_mean", "kld_ci95"}, "measured": {...}, "groups": [{"role",
// "layers", "weights", "coarse_kld", "preset", "measured"}]}
Json allocation_json(const BitAllocation& allocation);
std::string allocation_text(const Json& allocation);

}  // namespace quench
