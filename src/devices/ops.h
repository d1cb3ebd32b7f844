// The narrow waist: the primitive operations of a forward pass, one struct of function pointers.
// ref/ fills every row in plain C++ and is the judge; a device or an ISA folder overwrites the rows
// it does better.
//
// Activations are f32 everywhere. Kernels take plain structs of raw pointers and integers. Every op
// is called by every worker of the team with the same arguments and does its own part; the caller
// puts a barrier after it. The order of floating-point additions of each output never depends on
// the number of workers, of tokens in the batch, or on how a sequence is cut into chunks: the same
// token has the same bits alone and in any batch.
//
// Letters: T tokens of the step, H query heads, G key/value heads, D head_dim, E experts, K experts
// per token.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/threads.h"
#include "formats/trellis_code.h"

namespace quench {

class Trace;  // devices/trace.h

// Who runs: a worker of the CPU team, or the one host thread that drives a device's stream.
struct OpContext {
  Worker worker;
  void* stream = nullptr;
  std::byte* scratch =
      nullptr;  // of the whole team, for one op at a time; as large as the plan says
  float* transformed = nullptr;  // the inputs of a matmul after its transform, where one has any
  Trace* trace = nullptr;        // where spans are written; null: nowhere
};

constexpr int64_t kPageTokens =
    64;  // tokens per KV page, and keys per block of the attention's reduction

// y[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight. In place when y == x.
struct RmsNormArgs {
  const float* x;       // [rows, cols]
  const float* weight;  // [cols]
  float* y;             // [rows, cols]
  int64_t rows;
  int64_t cols;
  float eps;
};

// Rotary tables of a step: angle = position * inv_freq[table[t]][i]; cos and sin times the table's
// scale.
struct RopeTableArgs {
  const int32_t* positions;  // [T]
  const int32_t* table;      // [T] which row of inv_freq the token's sequence uses
  const float* inv_freq;     // [num_tables, rotary_dim / 2]
  const float* scales;       // [num_tables] YaRN's attention factor; 1 otherwise
  float* cos_sin;            // [T, rotary_dim]: rotary_dim/2 cosines, then as many sines
  int64_t num_tokens;
  int64_t rotary_dim;
};

// NeoX halves: (x[i], x[i + rotary_dim/2]) rotated by the table's angle; in place. Dimensions past
// rotary_dim stay.
struct RopeArgs {
  float* x;              // [T, heads, head_dim]
  const float* cos_sin;  // [T, rotary_dim]
  int64_t num_tokens;
  int64_t heads;
  int64_t head_dim;
  int64_t rotary_dim;
};

// Keys and values in pages of kPageTokens tokens; page p of this layer starts at base + p *
// page_bytes, and kv_page_bytes (devices/kv.h) says how large it is. How the elements lie inside a
// page is known to the level's kv_store and attention only. kInt8: codes in -127..127 with an f32
// scale per token and head, one for the key and one for the value. The slots of a page are filled
// from slot 0 on.
enum class KvType : int32_t { kF32, kBf16, kInt8 };
struct KvPages {
  std::byte* base;
  int64_t page_bytes;
  KvType type;
};

// Where each token of the step belongs. Arrays over sequences are indexed by the token's
// `sequence`.
struct BatchView {
  int64_t num_tokens;
  int64_t num_sequences;
  const int32_t* positions;   // [T] absolute position in its sequence
  const int32_t* sequence;    // [T] index of the sequence in this batch
  const int32_t* page_table;  // [S, max_pages] page of each 64-token block
  int64_t max_pages;
};

struct KvStoreArgs {
  const float* k;  // [T, G, D]
  const float* v;  // [T, G, D]
  KvPages pages;
  BatchView batch;
  int64_t kv_heads;
  int64_t head_dim;
};

// out[t] = softmax(scale * query_scale[t] * q . K) V over the keys at positions (p - window, p] of
// its sequence, where p is the token's position; window 0 means all. scale * query_scale > 0.
// Reduced over absolute 64-key blocks in ascending order. May meet the team's other workers inside;
// `context.scratch`, if not null, has attention_scratch_bytes (devices/kv.h).
struct AttentionArgs {
  const float* q;            // [T, H, D]
  const float* query_scale;  // [T], or null for 1 (Qwen1's LogN)
  float* out;                // [T, H, D]
  KvPages pages;
  BatchView batch;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
  int64_t window;
  float scale;
};

// y = silu(gate) * up, elementwise; y may be gate.
struct SiluMulArgs {
  const float* gate;
  const float* up;
  float* y;
  int64_t count;
};

// x += y, or x[r] += sigmoid(gate[r]) * y[r] when gate is given.
struct AddArgs {
  float* x;           // [rows, cols]
  const float* y;     // [rows, cols]
  const float* gate;  // [rows] logits, or null
  int64_t rows;
  int64_t cols;
};

// Softmax over all experts, the K best (lowest index first among equals), optionally renormalised
// to sum 1; then rows (token, choice) sorted by expert, stably, so that each expert's rows are
// contiguous.
struct MoeRouteArgs {
  const float* logits;    // [T, E]
  int32_t* expert_begin;  // [E + 1] first sorted row of each expert
  int32_t* sorted_token;  // [T * K] token of each sorted row
  int32_t* sorted_row;    // [T, K] where the token's choices are in the sorted order
  float* weights;         // [T, K]
  int64_t num_tokens;
  int64_t num_experts;
  int64_t experts_per_token;
  bool renormalise;
};

// x[t] += sum over choices j in order of weights[t][j] * y[sorted_row[t][j]].
struct MoeCombineArgs {
  float* x;                   // [T, cols]
  const float* y;             // [T * K, cols]
  const int32_t* sorted_row;  // [T, K]
  const float* weights;       // [T, K]
  int64_t num_tokens;
  int64_t experts_per_token;
  int64_t cols;
};

// y[i] = x[rows[i]].
struct GatherRowsArgs {
  const float* x;       // [any, cols]
  const int32_t* rows;  // [num_rows]
  float* y;             // [num_rows, cols]
  int64_t num_rows;
  int64_t cols;
};

// y = T(x), row by row: what the input of a matrix goes through that was quantized in another basis
// (formats/input_transform.h). Either a permutation, y[i] = x[permutation[i]], or the rotation of
// formats/hadamard.h, y = H (signs * x).
struct TransformArgs {
  const float* x;  // [rows, cols]
  float* y;        // [rows, cols], not x
  int64_t rows;
  int64_t cols;
  const int32_t* permutation;  // [cols], or null
  const float* signs;          // [cols], or null
  const float* hartley;        // [odd, odd]
  int64_t odd;                 // the odd part of cols, at most 512
  bool inverse;                // the transform's inverse instead
};

struct Ops {
  void (*rms_norm)(const OpContext&, const RmsNormArgs&);
  void (*rope_table)(const OpContext&, const RopeTableArgs&);
  void (*rope)(const OpContext&, const RopeArgs&);
  void (*kv_store)(const OpContext&, const KvStoreArgs&);
  void (*attention)(const OpContext&, const AttentionArgs&);
  void (*silu_mul)(const OpContext&, const SiluMulArgs&);
  void (*add)(const OpContext&, const AddArgs&);
  void (*moe_route)(const OpContext&, const MoeRouteArgs&);
  void (*moe_combine)(const OpContext&, const MoeCombineArgs&);
  void (*gather_rows)(const OpContext&, const GatherRowsArgs&);
  void (*transform)(const OpContext&, const TransformArgs&);
  TrellisStep trellis_step;  // for quantizers; by the worker that calls, alone
};

}  // namespace quench
