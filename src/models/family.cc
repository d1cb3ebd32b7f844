#include "models/family.h"

#include <fmt/ranges.h>

#include "base/check.h"

namespace quench {
namespace {

constexpr ShardAxis kNone = ShardAxis::kNone;
constexpr ShardAxis kColumn = ShardAxis::kColumn;
constexpr ShardAxis kRow = ShardAxis::kRow;

constexpr RoleRow kRoles[] = {
    {Role::kEmbedding, "embedding", true, true, kNone},
    {Role::kHead, "head", true, true, kColumn},
    {Role::kFinalNorm, "norm", false, false, kNone},
    {Role::kInputNorm, "norm", false, false, kNone},
    {Role::kQ, "q", true, true, kColumn},
    {Role::kK, "k", true, true, kColumn},
    {Role::kV, "v", true, true, kColumn},
    {Role::kO, "o", true, true, kRow},
    {Role::kQBias, "bias", false, false, kColumn},
    {Role::kKBias, "bias", false, false, kColumn},
    {Role::kVBias, "bias", false, false, kColumn},
    {Role::kOBias, "bias", false, false, kNone},
    {Role::kQNorm, "norm", false, false, kNone},
    {Role::kKNorm, "norm", false, false, kNone},
    {Role::kPostNorm, "norm", false, false, kNone},
    {Role::kGate, "gate", true, true, kColumn},
    {Role::kUp, "up", true, true, kColumn},
    {Role::kDown, "down", true, true, kRow},
    {Role::kRouter, "router", true, false, kNone},
    {Role::kExpertGate, "expert_gate", true, true, kColumn},
    {Role::kExpertUp, "expert_up", true, true, kColumn},
    {Role::kExpertDown, "expert_down", true, true, kRow},
    {Role::kSharedGate, "shared_gate", true, true, kColumn},
    {Role::kSharedUp, "shared_up", true, true, kColumn},
    {Role::kSharedDown, "shared_down", true, true, kRow},
    {Role::kSharedRouter, "shared_router", true, false, kNone},
};

}  // namespace

const RoleRow& role_row(Role role) {
  const RoleRow& row = kRoles[static_cast<size_t>(role)];
  QUENCH_CHECK(row.role == role, "role table is out of order at {}", static_cast<int>(role));
  return row;
}

Result<const Family*> find_family(const Json& config) {
  std::vector<std::string> known;
  for (const Family* family : all_families()) known.emplace_back(family->architecture);
  if (!config.is_object() || !config.contains("architectures") ||
      !config["architectures"].is_array() || config["architectures"].size() != 1 ||
      !config["architectures"][0].is_string()) {
    return fail(ErrorCode::kInvalidFile,
                "config.json: \"architectures\" must name one model class; known are {}.",
                fmt::join(known, ", "));
  }
  const auto& name = config["architectures"][0].get_ref<const std::string&>();
  for (const Family* family : all_families()) {
    if (name == family->architecture) return family;
  }
  return fail(ErrorCode::kUnsupported,
              "config.json: the architecture \"{}\" is not supported; known are {}.", name,
              fmt::join(known, ", "));
}

}  // namespace quench
