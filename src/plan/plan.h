// Plan: what goes where, in which format, how many bytes. It is the loader's input, not a report:
// `quench inspect` prints it, the engine executes it, and the loader checks that allocated bytes
// equal planned bytes.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "devices/device.h"
#include "formats/input_transform.h"
#include "models/blocks.h"
#include "models/family.h"
#include "models/workspace.h"

namespace quench {

// Which format each role's matrices get, and how. Empty formats: as stored.
struct Recipe {
  std::string name;
  std::string default_format;
  using RoleFormats = std::map<std::string, std::string>;  // role name -> format name
  RoleFormats role_formats;                                // over the default
  std::map<int64_t, RoleFormats> layer_formats = {};       // of single layers, over both
  std::string algorithm = "rtn";                           // see quantize/encoder.h
  bool rotate = false;      // inputs by a Hadamard rotation first (formats/hadamard.h)
  double kld_budget = 0.0;  // accepted mean KL divergence in nats per token; 0: not said

  // layer: -1 of what is in none.
  const std::string& format_for(Role role, int64_t layer) const;
  // Every format that it names.
  std::set<std::string> formats() const;
  // {"layer": {role: format}}
  Json layers_json() const;
};

struct PlanGoal {
  Recipe recipe;
  // bf16 halves what a long context reads and costs nothing seen: mean KL from f32 pages 3e-6 on
  // the demo model (int8: 2.7e-5), no changed first choice.
  KvType kv_type = KvType::kBf16;
  int64_t max_seq_len =
      0;  // tokens per sequence; 0: the model's max_position_embeddings, at most 4096
  int64_t max_batch_size = 1;  // sequences at once
  int64_t max_step_tokens = 512;
  int64_t max_logit_rows = 0;    // 0: what max_batch_size and max_draft_tokens need
  int64_t max_draft_tokens = 0;  // per sequence and step; 0: no speculation
  // Tokens whose keys and values fit, of all sequences together. 0: max_batch_size sequences of
  // max_seq_len, or if that is less what memory_bytes leaves beside the rest of the plan, but one
  // such sequence at least.
  int64_t kv_tokens = 0;
  int64_t memory_bytes = 0;  // for the whole plan; 0: any
};

// Speculation is for steps that are bound by reading the weights: those with few sequences.
constexpr int64_t kMaxSpeculatingSequences = 4;

// A weight of the model: one matrix, or a stack of experts.
struct PlannedMatrix {
  Role role;
  int64_t layer;
  std::vector<TensorSpec> sources;  // one per expert
  const Format* format;
  const MatmulKernel* kernel;
  int64_t bytes;           // packed, all experts
  int64_t read_bytes;      // read for one decoded token at batch 1
  std::string fallback;    // why it has not the recipe's format; empty: it has
  int64_t transform = -1;  // index into Plan::transforms; -1: none
};

struct PlannedVector {
  TensorSpec source;
  int64_t bytes;
};

struct Plan {
  const Family* family = nullptr;
  ModelConfig config;
  std::vector<PlannedMatrix> matrices;
  std::vector<PlannedVector> vectors;
  // What inputs of matrices go through first, each once. They belong to the model's source.
  std::vector<const InputTransform*> transforms;
  bool tied_head = false;
  WorkspaceLimits limits;
  // bf16 halves what a long context reads and costs nothing seen: mean KL from f32 pages 3e-6 on
  // the demo model (int8: 2.7e-5), no changed first choice.
  KvType kv_type = KvType::kBf16;
  int64_t max_seq_len = 0;
  int64_t max_batch_size = 1;
  int64_t max_draft_tokens = 0;
  int64_t num_pages = 0;  // of every layer

  int64_t weights_bytes = 0;  // matrices
  int64_t vectors_bytes = 0;  // norms, biases, rotary tables, transforms
  int64_t kv_page_bytes = 0;  // of one page of one layer
  int64_t kv_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t read_bytes_per_token = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t num_parameters = 0;

  int64_t total_bytes() const { return weights_bytes + vectors_bytes + kv_bytes + workspace_bytes; }
};

// How the model's source holds a tensor.
struct Stored {
  const Format* format = nullptr;             // null: it has no such tensor
  const InputTransform* transform = nullptr;  // null: none
};
using StoredFormat = std::function<Stored(const TensorSpec&)>;

// Bytes on the device.
int64_t transform_bytes(const InputTransform& transform);

Result<Plan> make_plan(const Family& family, const ModelConfig& config, const StoredFormat& stored,
                       const Device& device, const PlanGoal& goal);

// "f32" or "bf16": how keys and values are stored.
Result<KvType> kv_type_by_name(const std::string& name);

// A recipe by format name ("int4"), or "" for as stored.
Result<Recipe> recipe_for_format(const std::string& format);
// From a recipe file: {"name", "description", "default": FORMAT, "roles": {ROLE: FORMAT},
// "layers": {LAYER: {ROLE: FORMAT}}, "algorithm": NAME, "rotate": BOOL, "kld_budget": NUMBER}.
Result<Recipe> parse_recipe(const Json& json, const std::string& where);

}  // namespace quench
