// Matmul: the one op chosen per weight, once, at load. A kernel owns its memory layout behind
// pack(); nobody else knows whether a weight is packed or how. y = x W^T + bias with m tokens, n
// out features, k in features.
#pragma once

#include <cstdint>
#include <span>

#include "devices/ops.h"
#include "devices/tensor.h"

namespace quench {

struct MatmulKernel;

// What is done to the input of a weight first, on the weight's device. Does not own its arrays (the
// Model does); weights that go through the same one share the pointer.
struct WeightTransform {
  void (*run)(const OpContext&, const TransformArgs&) = nullptr;  // the device's op
  const int32_t* permutation = nullptr;
  const float* signs = nullptr;
  const float* hartley = nullptr;
  int64_t odd = 1;

  // y = T(x) for [rows, cols], or its inverse.
  void apply(const OpContext& context, const float* x, int64_t rows, int64_t cols, bool inverse,
             float* y) const {
    run(context, {x, y, rows, cols, permutation, signs, hartley, odd, inverse});
  }
};

// A matrix [n, k], or a stack of experts [num_experts, n, k], packed for one kernel of one device.
// Does not own its memory (the Model does).
struct Weight {
  const MatmulKernel* kernel = nullptr;
  const Format* format = nullptr;
  int64_t num_experts = 1;
  int64_t n = 0;
  int64_t k = 0;
  const std::byte* packed = nullptr;           // num_experts * packed_bytes
  int64_t packed_bytes = 0;                    // of one matrix
  const float* bias = nullptr;                 // [n], or null
  const WeightTransform* transform = nullptr;  // y = (packed) T(x); null: y = (packed) x

  explicit operator bool() const { return kernel != nullptr; }
};

// Weights that share an input (q, k, v; gate, up) go in one call, so that a kernel that quantizes
// its input does it once.
struct MatmulArgs {
  const float* x;                // [m, k], or, routed, [tokens, k]
  const Weight* const* weights;  // [num_weights], all with the same k and num_experts
  float* const* y;               // [num_weights] of [m, n]
  int64_t num_weights;
  int64_t m;
  int64_t x_rows;  // of x: m, or, routed with `rows`, the number of tokens
  // Stacks of experts: sorted row r uses x[rows[r]] (null: x[r]) and the expert e with begin[e] <=
  // r < begin[e + 1]. Both null for plain matrices. m is then begin[num_experts].
  const int32_t* expert_begin;  // [num_experts + 1]
  const int32_t* rows;          // [m]
};

// In which type a kernel multiplies. Says which peak of the machine limits it.
enum class Arithmetic : int32_t { kF32, kBf16, kInt8 };

struct MatmulKernel {
  const char* name;
  bool (*accepts)(const Format& format, int64_t n, int64_t k);
  int64_t (*packed_bytes)(const Format& format, int64_t n, int64_t k);
  // Packs rows [row_begin, row_begin + num_rows) of one [n, k] matrix; `source` is canonical and
  // begins at row_begin. row_begin is a multiple of kPackRows; the calls of one matrix may come in
  // any order, each row once.
  void (*pack)(const Tensor& source, int64_t n, int64_t row_begin, std::byte* packed);
  // y[i] = row ids[i] of a packed matrix, decoded: the embedding look-up. Every id is in [0, n).
  void (*gather)(const OpContext&, const Weight& weight, const int32_t* ids, int64_t num_ids,
                 float* y);
  // May meet the team's other workers inside; `context.scratch` has scratch_bytes(x_rows, k). The
  // caller puts a barrier after it, and so between two runs.
  void (*run)(const OpContext& context, const MatmulArgs& args);
  int64_t (*scratch_bytes)(int64_t x_rows, int64_t k);
  Arithmetic arithmetic = Arithmetic::kF32;
  // The same arithmetic, bit for bit, on a matrix as a file holds it: what serves until it is
  // packed. Its layout is the canonical one. Null: there is none.
  const MatmulKernel* in_file = nullptr;
};

// Rows per packing step: a multiple of every kernel's strip height and of every format's tile
// height.
constexpr int64_t kPackRows = 128;

}  // namespace quench
