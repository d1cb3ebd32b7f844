#include "measure/measured_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

namespace quench {
namespace {

std::string format_summary(const Plan& plan) {
  std::map<std::string, int64_t> bytes;
  for (const PlannedMatrix& matrix : plan.matrices) bytes[matrix.format->name] += matrix.bytes;
  std::vector<std::pair<int64_t, std::string>> order;
  for (const auto& [name, count] : bytes) order.emplace_back(-count, name);
  std::sort(order.begin(), order.end());
  std::vector<std::string> names;
  for (const auto& [count, name] : order) names.push_back(name);
  return fmt::format("{}", fmt::join(names, " + "));
}

}  // namespace

MeasuredModel measured_model(const std::string& name, const Plan& plan, const std::string& sha256) {
  return {name,
          sha256,
          plan.family->architecture,
          format_summary(plan),
          plan.weights_bytes + plan.vectors_bytes,
          plan.read_bytes_per_token,
          plan.num_parameters};
}

Result<std::string> hash_weights(const ModelFiles& files, int threads) {
  const auto& checkpoint = files.checkpoint;
  if (!checkpoint || !checkpoint->has_weights() || checkpoint->weight_bytes() > kMaxHashBytes)
    return std::string();
  return checkpoint->sha256(threads);
}

}  // namespace quench
