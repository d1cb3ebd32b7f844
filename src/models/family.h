// Family: one model family per file: parse its config.json, list its tensors, run it forward.
// Registered by existing (cmake/registry.cmake); found by the "architectures" entry of a
// config.json.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "models/config.h"

namespace quench {

struct ForwardContext;

// What a tensor is for. Quantizer, planner and tensor parallelism go by this, never by a name.
enum class Role {
  kEmbedding,
  kHead,
  kFinalNorm,
  kInputNorm,
  kQ,
  kK,
  kV,
  kO,
  kQBias,
  kKBias,
  kVBias,
  kOBias,
  kQNorm,
  kKNorm,
  kPostNorm,
  kGate,
  kUp,
  kDown,
  kRouter,
  kExpertGate,
  kExpertUp,
  kExpertDown,
  kSharedGate,
  kSharedUp,
  kSharedDown,
  kSharedRouter,
};
constexpr int kNumRoles = static_cast<int>(Role::kSharedRouter) + 1;

enum class ShardAxis { kNone, kColumn, kRow };  // how tensor parallelism cuts it

struct RoleRow {
  Role role;
  const char* name;   // "q", "expert_gate", "norm"
  bool is_matrix;     // a weight of a matmul; otherwise a vector kept in f32
  bool is_quantized;  // a matrix that quantization applies to by default (routers stay as they are)
  ShardAxis shard;
};
const RoleRow& role_row(Role role);

// One entry of a family's inventory: a tensor of the checkpoint, or a block of rows of one (Qwen1's
// fused c_attn is three entries of one name).
struct TensorSpec {
  std::string name;  // HF name
  Role role;
  int64_t layer = -1;     // -1: not in a layer
  int64_t expert = -1;    // -1: not an expert's
  int64_t rows = 1;       // out features; 1 for vectors
  int64_t cols = 0;       // in features, or the vector's length
  int64_t row_begin = 0;  // first row inside the file's tensor
  int64_t file_rows = 0;  // rows of the file's tensor; 0: the same as rows
};
using TensorVisitor = std::function<void(TensorSpec)>;

struct Family {
  const char* architecture;  // as in config.json
  const char* description;
  Result<ModelConfig> (*parse)(const Json& config);
  // The single inventory: loader, quantizer, planner and the shape test read it.
  void (*tensors)(const ModelConfig& config, const TensorVisitor& visit);
  // Called by every worker of the device with the same context.
  void (*forward)(const ForwardContext& context);
};

std::span<const Family* const> all_families();
// From the "architectures" of a config.json; an unknown one lists the known.
Result<const Family*> find_family(const Json& config);

}  // namespace quench
