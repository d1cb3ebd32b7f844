// quench inspect: what a model is made of and what running it costs, before it is run.
#include <cstdio>
#include <map>

#include "apps/options.h"
#include "apps/verbs.h"

namespace quench {
namespace {

constexpr const char* kInspectExamples = R"~(Examples:
  quench inspect
  quench inspect ~/models/Qwen3-8B --format int4 --json
  quench inspect Qwen2.5-72B --random-weights --format int4)~";

struct InspectFlags {
  SessionOptions session;
  bool json = false;
};

// The matrices of one role that are stored alike.
struct RoleGroup {
  const PlannedMatrix* first;
  int64_t count = 0;  // matrices, experts counted singly
  int64_t bytes = 0;
};

std::vector<RoleGroup> group_matrices(const Plan& plan) {
  std::vector<RoleGroup> groups;
  std::map<std::tuple<Role, const Format*, const MatmulKernel*, int64_t, int64_t>, size_t> index;
  for (const PlannedMatrix& matrix : plan.matrices) {
    const TensorSpec& spec = matrix.sources.front();
    const auto [entry, is_new] = index.try_emplace(
        {matrix.role, matrix.format, matrix.kernel, spec.rows, spec.cols}, groups.size());
    if (is_new) groups.push_back({&matrix});
    groups[entry->second].count += static_cast<int64_t>(matrix.sources.size());
    groups[entry->second].bytes += matrix.bytes;
  }
  return groups;
}

Json to_json(const PlannedModel& model) {
  const Plan& plan = model.plan;
  const ModelConfig& c = plan.config;
  Json roles = Json::array();
  for (const RoleGroup& group : group_matrices(plan)) {
    const TensorSpec& spec = group.first->sources.front();
    roles.push_back(
        {{"role", role_row(group.first->role).name},
         {"shape", {spec.rows, spec.cols}},
         {"count", group.count},
         {"format", group.first->format->name},
         {"kernel", group.first->kernel->name},
         {"bytes", group.bytes},
         {"fallback", group.first->fallback.empty() ? Json() : Json(group.first->fallback)}});
  }
  return {{"model", model.files.name},
          {"family", plan.family->architecture},
          {"device", model.device->name()},
          {"isa", model.device->isa()},
          {"has_weights", model.source != nullptr},
          {"hidden_size", c.hidden_size},
          {"num_hidden_layers", c.num_hidden_layers},
          {"num_attention_heads", c.num_attention_heads},
          {"num_key_value_heads", c.num_key_value_heads},
          {"head_dim", c.head_dim},
          {"intermediate_size", c.intermediate_size},
          {"vocab_size", c.vocab_size},
          {"max_position_embeddings", c.max_position_embeddings},
          {"num_experts", c.moe.num_experts},
          {"num_experts_per_tok", c.moe.num_experts_per_tok},
          {"tie_word_embeddings", c.tie_word_embeddings},
          {"parameters", plan.num_parameters},
          {"roles", roles},
          {"weights_bytes", plan.weights_bytes},
          {"vectors_bytes", plan.vectors_bytes},
          {"kv_bytes", plan.kv_bytes},
          {"workspace_bytes", plan.workspace_bytes},
          {"total_bytes", plan.total_bytes()},
          {"max_seq_len", plan.max_seq_len},
          {"max_batch_size", plan.max_batch_size},
          {"kv_tokens", plan.num_pages * kPageTokens},
          {"bytes_read_per_token", plan.read_bytes_per_token},
          {"kv_bytes_per_token", plan.kv_bytes_per_token}};
}

void print_text(const PlannedModel& model) {
  const Plan& plan = model.plan;
  const ModelConfig& c = plan.config;
  const auto parameters = static_cast<double>(plan.num_parameters);
  std::printf("%s: %s, %.3g %s parameters%s\n", model.files.name.c_str(), plan.family->architecture,
              parameters / (parameters < 1e9 ? 1e6 : 1e9), parameters < 1e9 ? "M" : "B",
              model.source ? "" : " (weight files are not here)");
  std::printf(
      "%lld layers, hidden %lld, %lld query and %lld key/value heads of %lld, ffn %lld, vocabulary "
      "%lld%s\n",
      static_cast<long long>(c.num_hidden_layers), static_cast<long long>(c.hidden_size),
      static_cast<long long>(c.num_attention_heads), static_cast<long long>(c.num_key_value_heads),
      static_cast<long long>(c.head_dim), static_cast<long long>(c.intermediate_size),
      static_cast<long long>(c.vocab_size), c.tie_word_embeddings ? ", tied head" : "");
  if (c.moe.num_experts > 0) {
    std::printf("%lld experts of %lld, %lld per token\n", static_cast<long long>(c.moe.num_experts),
                static_cast<long long>(c.moe.moe_intermediate_size),
                static_cast<long long>(c.moe.num_experts_per_tok));
  }
  std::printf("\n%-14s %-16s %6s  %-12s %-14s %12s\n", "role", "shape", "count", "format", "kernel",
              "MB");
  for (const RoleGroup& group : group_matrices(plan)) {
    const TensorSpec& spec = group.first->sources.front();
    std::printf("%-14s %-16s %6lld  %-12s %-14s %12.2f%s\n", role_row(group.first->role).name,
                fmt::format("{} x {}", spec.rows, spec.cols).c_str(),
                static_cast<long long>(group.count), group.first->format->name.c_str(),
                group.first->kernel->name, megabytes(group.bytes),
                group.first->fallback.empty() ? "" : ("  (" + group.first->fallback + ")").c_str());
  }
  std::printf("\n%-44s %12.2f MB\n", "weights", megabytes(plan.weights_bytes));
  std::printf("%-44s %12.2f MB\n", "norms, biases, rotary tables", megabytes(plan.vectors_bytes));
  std::printf("%-44s %12.2f MB\n",
              fmt::format("keys and values, {} tokens", plan.num_pages * kPageTokens).c_str(),
              megabytes(plan.kv_bytes));
  std::printf("%-44s %12.2f MB\n", "activations", megabytes(plan.workspace_bytes));
  std::printf("%-44s %12.2f MB\n", "total in memory", megabytes(plan.total_bytes()));
  std::printf("%-44s %12.2f MB\n", "weights read per generated token",
              megabytes(plan.read_bytes_per_token));
  std::printf("%-44s %12.2f KB\n", "keys and values per token",
              static_cast<double>(plan.kv_bytes_per_token) / 1e3);
  std::printf("device %s, ISA level %s, %d threads\n", model.device->name().c_str(),
              model.device->isa().c_str(), model.device->num_workers());
}

Result<void> inspect(const InspectFlags& flags) {
  QUENCH_TRY(const auto model, plan_model(flags.session, Weights::kOptional));
  if (flags.json) {
    // A directory's name may be any bytes.
    print_json(to_json(*model));
  } else {
    print_text(*model);
  }
  return {};
}

}  // namespace

void add_inspect(CLI::App& app, Verb& chosen) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* verb =
      app.add_subcommand("inspect", "Shapes, formats, kernels, and the bytes a model needs");
  verb->footer(kInspectExamples);
  add_model_options(*verb, flags->session);
  add_memory_options(*verb, flags->session);
  add_engine_options(*verb, flags->session);
  verb->add_flag("--json", flags->json, "JSON instead of text");
  verb->callback([flags, &chosen] { chosen = [flags] { return inspect(*flags); }; });
}

}  // namespace quench
