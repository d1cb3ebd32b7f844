#include "plan/plan.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "devices/kv.h"

namespace quench {
namespace {

constexpr int64_t kDefaultSeqLen = 4096;
constexpr int64_t kMaxDraftTokens = 16;

// The wanted format, or the nearest that divides the shape: smaller groups of the same width, then
// bf16.
const Format& fitting_format(const Format& wanted, int64_t rows, int64_t cols,
                             std::string& fallback) {
  if (wanted.fits(rows, cols)) return wanted;
  for (const char* group : {"_g64", "_g32"}) {
    const std::string name =
        fmt::format("int{}{}{}", wanted.bits, group, wanted.zero_point ? "_zp" : "");
    const Format* smaller = find_format(name);
    if (smaller == nullptr || !smaller->fits(rows, cols)) continue;
    fallback = fmt::format("{} does not divide [{}, {}]", wanted.name, rows, cols);
    return *smaller;
  }
  fallback = fmt::format("no {}-bit format divides [{}, {}]", wanted.bits, rows, cols);
  return *find_format("bf16");
}

class Planner {
 public:
  Planner(const StoredFormat& stored, const Device& device, const Recipe& recipe, Plan& plan)
      : stored_(stored), device_(device), recipe_(recipe), plan_(plan) {}

  void add(TensorSpec spec) {
    plan_.num_parameters += spec.rows * spec.cols;
    if (!role_row(spec.role).is_matrix) {
      const int64_t bytes = round_up(spec.cols * static_cast<int64_t>(sizeof(float)), 64);
      plan_.vectors_bytes += bytes;
      plan_.vectors.push_back({std::move(spec), bytes});
      return;
    }
    if (spec.expert > 0) {
      find(spec.role, spec.layer).sources.push_back(std::move(spec));
      return;
    }
    plan_.matrices.push_back(
        {spec.role, spec.layer, {std::move(spec)}, nullptr, nullptr, 0, 0, ""});
  }

  Result<void> finish() {
    for (PlannedMatrix& matrix : plan_.matrices) {
      QUENCH_TRY_VOID(choose(matrix));
      plan_.weights_bytes += matrix.bytes;
      plan_.read_bytes_per_token += matrix.read_bytes;
    }
    return {};
  }

 private:
  PlannedMatrix& find(Role role, int64_t layer) {
    // Experts follow each other in an inventory, three roles interleaved: the wanted entry is near
    // the end.
    for (size_t i = plan_.matrices.size(); i-- > 0;) {
      if (plan_.matrices[i].role == role && plan_.matrices[i].layer == layer)
        return plan_.matrices[i];
    }
    QUENCH_CHECK(false, "expert without its first: role {} layer {}", role_row(role).name, layer);
  }

  Result<void> choose(PlannedMatrix& matrix) {
    const TensorSpec& spec = matrix.sources.front();
    const Stored found = stored_(spec);
    const Format* stored = found.format;
    if (stored == nullptr)
      return fail(ErrorCode::kInvalidFile, "The model has no tensor \"{}\".", spec.name);
    const std::string& wanted = recipe_.format_for(matrix.role, matrix.layer);
    matrix.format = stored;
    if (!wanted.empty()) {
      QUENCH_TRY(const Format* format, require_format(wanted));
      matrix.format = &fitting_format(*format, spec.rows, spec.cols, matrix.fallback);
    }
    // Other codes than the stored ones are made in the model's own basis.
    if (found.transform != nullptr && matrix.format == stored)
      matrix.transform = transform_index(*found.transform);
    matrix.kernel = &choose_kernel(device_, *matrix.format, spec.rows, spec.cols);
    const auto experts = static_cast<int64_t>(matrix.sources.size());
    const int64_t one = matrix.kernel->packed_bytes(*matrix.format, spec.rows, spec.cols);
    matrix.bytes = one * experts;
    const bool is_expert = spec.expert >= 0;
    const bool is_gathered_only = matrix.role == Role::kEmbedding && !plan_.tied_head;
    matrix.read_bytes = is_gathered_only ? 0
                        : is_expert      ? one * plan_.config.moe.num_experts_per_tok
                                         : one;
    return {};
  }

  // The newest are compared first: weights that share an input follow each other.
  int64_t transform_index(const InputTransform& transform) {
    for (size_t i = plan_.transforms.size(); i-- > 0;) {
      if (*plan_.transforms[i] == transform) return static_cast<int64_t>(i);
      if (plan_.transforms.size() - i > 8) break;
    }
    plan_.transforms.push_back(&transform);
    plan_.vectors_bytes += transform_bytes(transform);
    return static_cast<int64_t>(plan_.transforms.size()) - 1;
  }

  const StoredFormat& stored_;
  const Device& device_;
  const Recipe& recipe_;
  Plan& plan_;
};

// Scratch memory of the hungriest matmul.
int64_t scratch_bytes(const Plan& plan) {
  int64_t most = attention_scratch_bytes(plan.limits.max_tokens, plan.config.num_attention_heads,
                                         plan.config.head_dim, plan.limits.max_pages * kPageTokens);
  for (const PlannedMatrix& matrix : plan.matrices) {
    const bool is_routed = matrix.sources.front().expert >= 0;
    const int64_t rows =
        std::max(plan.limits.max_tokens * (is_routed ? plan.config.moe.num_experts_per_tok : 1),
                 plan.limits.max_logit_rows);
    most = std::max(most, matrix.kernel->scratch_bytes(rows, matrix.sources.front().cols));
  }
  return most;
}

// Floats of the widest input that goes through a transform, of a matmul or of a look-up.
int64_t transformed_floats(const Plan& plan) {
  int64_t most = 0;
  for (const PlannedMatrix& matrix : plan.matrices) {
    if (matrix.transform < 0) continue;
    const bool is_expert_down = matrix.role == Role::kExpertDown;
    const int64_t tokens =
        plan.limits.max_tokens * (is_expert_down ? plan.config.moe.num_experts_per_tok : 1);
    most =
        std::max(most, std::max(tokens, plan.limits.max_logit_rows) * matrix.sources.front().cols);
  }
  return most;
}

// The sizes of a step.
Result<void> plan_limits(const PlanGoal& goal, Plan& plan) {
  plan.max_seq_len = goal.max_seq_len != 0
                         ? goal.max_seq_len
                         : std::min(plan.config.max_position_embeddings, kDefaultSeqLen);
  if (goal.max_batch_size < 1 || goal.max_batch_size > 4096 || plan.max_seq_len < 1 ||
      plan.max_seq_len > (int64_t{1} << 24)) {
    return fail(
        ErrorCode::kInvalidArgument,
        "The batch must be between 1 and 4096 sequences of at most 2^24 tokens, found {} of {}.",
        goal.max_batch_size, plan.max_seq_len);
  }
  if (goal.max_draft_tokens < 0 || goal.max_draft_tokens > kMaxDraftTokens) {
    return fail(ErrorCode::kInvalidArgument, "Speculation drafts 0 (off) to {} tokens, found {}.",
                kMaxDraftTokens, goal.max_draft_tokens);
  }
  plan.max_batch_size = goal.max_batch_size;
  plan.max_draft_tokens = goal.max_draft_tokens;
  const int64_t pages = ceil_div(plan.max_seq_len, kPageTokens);
  const int64_t speculating = std::min(goal.max_batch_size, kMaxSpeculatingSequences);
  plan.limits.max_tokens =
      std::max({std::min(goal.max_step_tokens, pages * kPageTokens * goal.max_batch_size),
                goal.max_batch_size, int64_t{1}});
  plan.limits.max_sequences = goal.max_batch_size;
  plan.limits.max_pages = pages;
  plan.limits.max_logit_rows =
      goal.max_logit_rows > 0
          ? goal.max_logit_rows
          : std::max(goal.max_batch_size, speculating * (1 + goal.max_draft_tokens));
  plan.limits.scratch_bytes = scratch_bytes(plan);
  plan.limits.transformed_floats = transformed_floats(plan);
  return {};
}

// How many pages, after all other bytes are known.
Result<void> plan_pages(const PlanGoal& goal, Plan& plan) {
  constexpr int64_t kMaxKvTokens = int64_t{1} << 36;
  if (goal.kv_tokens < 0 || goal.kv_tokens > kMaxKvTokens) {
    return fail(ErrorCode::kInvalidArgument,
                "Keys and values of {} tokens are wanted; at most 2^36 are possible.",
                goal.kv_tokens);
  }
  if (goal.kv_tokens > 0) {
    plan.num_pages = ceil_div(goal.kv_tokens, kPageTokens);
    return {};
  }
  plan.num_pages = plan.limits.max_pages * plan.max_batch_size;
  if (goal.memory_bytes == 0) return {};
  const int64_t left =
      goal.memory_bytes - plan.weights_bytes - plan.vectors_bytes - plan.workspace_bytes;
  const int64_t fitting = left / (plan.kv_page_bytes * plan.config.num_hidden_layers);
  plan.num_pages = std::max(plan.limits.max_pages, std::min(plan.num_pages, fitting));
  return {};
}

Result<void> plan_memory(const PlanGoal& goal, Plan& plan) {
  const ModelConfig& config = plan.config;
  QUENCH_TRY_VOID(plan_limits(goal, plan));
  plan.workspace_bytes = workspace_bytes(config, plan.limits);
  const RopeBank rope = make_rope_bank(config);
  plan.vectors_bytes += round_up(static_cast<int64_t>(rope.inv_freq.size() * sizeof(float)), 64) +
                        round_up(static_cast<int64_t>(rope.scales.size() * sizeof(float)), 64);
  plan.kv_type = goal.kv_type;
  plan.kv_page_bytes = kv_page_bytes(goal.kv_type, config.num_key_value_heads, config.head_dim);
  plan.kv_bytes_per_token = plan.kv_page_bytes / kPageTokens * config.num_hidden_layers;
  QUENCH_TRY_VOID(plan_pages(goal, plan));
  plan.kv_bytes = plan.kv_page_bytes * plan.num_pages * config.num_hidden_layers;
  return {};
}

}  // namespace

int64_t transform_bytes(const InputTransform& transform) {
  return round_up(static_cast<int64_t>(transform.permutation.size() * sizeof(int32_t)), 64) +
         round_up(static_cast<int64_t>(transform.signs.size() * sizeof(float)), 64) +
         round_up(static_cast<int64_t>(transform.hartley.size() * sizeof(float)), 64);
}

const std::string& Recipe::format_for(Role role, int64_t layer) const {
  static const std::string as_stored;
  const char* role_name = role_row(role).name;
  if (const auto of_layer = layer_formats.find(layer); of_layer != layer_formats.end()) {
    const auto entry = of_layer->second.find(role_name);
    if (entry != of_layer->second.end()) return entry->second;
  }
  const auto entry = role_formats.find(role_name);
  if (entry != role_formats.end()) return entry->second;
  return role_row(role).is_quantized ? default_format : as_stored;
}

std::set<std::string> Recipe::formats() const {
  std::set<std::string> names = {default_format};
  for (const auto& [role, format] : role_formats) names.insert(format);
  for (const auto& [layer, roles] : layer_formats) {
    for (const auto& [role, format] : roles) names.insert(format);
  }
  return names;
}

Json Recipe::layers_json() const {
  Json json = Json::object();
  for (const auto& [layer, roles] : layer_formats) json[std::to_string(layer)] = roles;
  return json;
}

Result<Plan> make_plan(const Family& family, const ModelConfig& config, const StoredFormat& stored,
                       const Device& device, const PlanGoal& goal) {
  Plan plan;
  plan.family = &family;
  plan.config = config;
  plan.tied_head = config.tie_word_embeddings;
  Planner planner(stored, device, goal.recipe, plan);
  family.tensors(config, [&](TensorSpec spec) { planner.add(std::move(spec)); });
  QUENCH_TRY_VOID(planner.finish());
  QUENCH_TRY_VOID(plan_memory(goal, plan));
  return plan;
}

Result<KvType> kv_type_by_name(const std::string& name) {
  std::vector<std::string> names;
  for (const KvTypeRow& row : kKvTypes) {
    if (name == row.name) return row.type;
    names.emplace_back(row.name);
  }
  return fail(ErrorCode::kInvalidArgument, "Keys and values can be stored as {}, found \"{}\".",
              fmt::join(names, ", "), name);
}

Result<Recipe> recipe_for_format(const std::string& format) {
  if (!format.empty()) QUENCH_TRY_VOID(require_encoder(format));
  Recipe recipe;
  recipe.name = format;
  recipe.default_format = format;
  return recipe;
}

Result<Recipe> parse_recipe(const Json& json, const std::string& where) {
  auto refuse = [&](std::string what) {
    return fail(ErrorCode::kInvalidFile, "{}: {}.", where, what);
  };
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string()) {
    return refuse("a recipe needs a \"name\"");
  }
  // "choose" is read by who measures (measure/choose_format.h).
  static const std::set<std::string> keys = {"name",      "description", "default",
                                             "algorithm", "rotate",      "kld_budget",
                                             "roles",     "layers",      "choose"};
  for (const auto& [key, value] : json.items()) {
    if (!keys.contains(key))
      return refuse(fmt::format("unknown key \"{}\"; known are {}", key, fmt::join(keys, ", ")));
  }
  Recipe recipe;
  recipe.name = json["name"].get<std::string>();
  auto read_format = [&](const Json& value, std::string& into) -> Result<void> {
    if (!value.is_string())
      return refuse(fmt::format("expected the name of a format, found {}", value.dump()));
    QUENCH_TRY_VOID(require_encoder(value.get<std::string>()));
    into = value.get<std::string>();
    return {};
  };
  if (json.contains("default"))
    QUENCH_TRY_VOID(read_format(json["default"], recipe.default_format));
  if (json.contains("algorithm")) {
    if (!json["algorithm"].is_string()) return refuse("\"algorithm\" must be a name");
    recipe.algorithm = json["algorithm"].get<std::string>();
  }
  if (json.contains("rotate")) {
    if (!json["rotate"].is_boolean()) return refuse("\"rotate\" must be true or false");
    recipe.rotate = json["rotate"].get<bool>();
  }
  if (json.contains("kld_budget")) {
    const Json& budget = json["kld_budget"];
    if (!budget.is_number() || budget.get<double>() < 0.0)
      return refuse("\"kld_budget\" must be a number of nats per token");
    recipe.kld_budget = budget.get<double>();
  }
  std::set<std::string> known;
  for (int r = 0; r < kNumRoles; ++r) {
    if (const RoleRow& row = role_row(static_cast<Role>(r)); row.is_matrix) known.insert(row.name);
  }
  auto read_roles = [&](const Json& roles, Recipe::RoleFormats& into) -> Result<void> {
    for (const auto& [role, format] : roles.items()) {
      if (!known.contains(role)) {
        return refuse(
            fmt::format("unknown role \"{}\"; known are {}", role, fmt::join(known, ", ")));
      }
      QUENCH_TRY_VOID(read_format(format, into[role]));
    }
    return {};
  };
  for (const char* key : {"roles", "layers"}) {
    if (json.contains(key) && !json[key].is_object())
      return refuse(fmt::format("\"{}\" must be an object, found {:.60}", key, json[key].dump()));
  }
  if (json.contains("roles")) QUENCH_TRY_VOID(read_roles(json["roles"], recipe.role_formats));
  if (!json.contains("layers")) return recipe;
  for (const auto& [name, roles] : json["layers"].items()) {
    int64_t layer = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), layer);
    if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size() || layer < 0)
      return refuse(fmt::format("\"layers\" are named by number, found \"{}\"", name));
    QUENCH_TRY_VOID(read_roles(roles, recipe.layer_formats[layer]));
  }
  return recipe;
}

}  // namespace quench
